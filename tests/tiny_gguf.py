#!/usr/bin/env python3
"""Writes tiny random LLaMA GGUF files, for tests that need a model but not sense.

    python tests/tiny_gguf.py OUT.gguf --type Q4_0 --seed 7

Every matrix of the file has the asked type; the tokenizer is byte-level SPM, so that llama.cpp loads it too.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """Dimensions of a tiny model; all of them multiples of 32 unless the type is F32 or F16."""

    d: int = 64
    n_layers: int = 3
    n_heads: int = 8
    n_kv_heads: int = 4
    ff: int = 160
    n_ctx: int = 256
    vocab: int = 320
    head_dim: int = 0  # 0: d / n_heads
    tied: bool = False
    biases: bool = False
    rope_scaling: float = 1.0  # linear
    rope_freqs: bool = False  # as Llama 3.1 has them
    split: int = 0  # into files of so many tensors
    metadata: tuple[tuple[str, Any], ...] = ()  # keys that are added, or replaced
    vectors: tuple[str, ...] = ()  # tensors of these names, of ones
    down_scale: float = 1.0  # of layer 1's MLP: large values drive `fixed` partials out of their range

    @property
    def columns(self) -> int:
        """Of a head."""
        return self.head_dim or self.d // self.n_heads


K_SHAPE = Shape(d=512, n_layers=2, ff=768)  # the smallest with several groups where blocks are 256 wide

TOKENS = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] + [b"\xe2\x96\x81"]
TOKENS += [bytes([c]) for c in range(33, 93)]  # 320 in all


def tokens(vocab: int) -> list[bytes]:
    """That many tokens: TOKENS, then made-up words."""
    words = itertools.product(b"abcdefghijklmnopqrstuvwxyz", repeat=4)
    return TOKENS + [b"\xe2\x96\x81" + bytes(word) for word in itertools.islice(words, vocab - len(TOKENS))]


def large_vocabulary() -> Shape:
    """As many tokens and merges as Llama 3 has."""
    words = ("".join(word) for word in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=4))
    merges = tuple(f"{word} {word[::-1]}" for word in itertools.islice(words, 280147))
    return Shape(n_layers=1, vocab=128256, metadata=(("tokenizer.ggml.merges", merges),))


def _metadata(writer: gguf.GGUFWriter, name: str, shape: Shape) -> None:
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (shape.vocab - len(kinds))
    writer.add_name(name)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.d)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_dimension_count(shape.columns)
    writer.add_rope_freq_base(10000.0)
    if shape.head_dim:
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
    if shape.rope_scaling != 1.0:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope_scaling)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens(shape.vocab))
    writer.add_token_scores([-float(i) for i in range(shape.vocab)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    adders = {
        bool: writer.add_bool,
        float: writer.add_float32,
        int: writer.add_uint32,
        str: writer.add_string,
        tuple: writer.add_array,
    }
    for key, value in shape.metadata:
        adders[type(value)](key, value)


# Kinds that are mixtures: the type of these matrices, all others have the first type.
MIXTURES = {
    "Q4_K_M": ("Q4_K", {"attn_v": "Q6_K", "ffn_down": "Q6_K", "output": "Q6_K"}),
    "Q45": ("Q5_1", {"attn_v": "Q4_1", "attn_output": "IQ4_NL", "ffn_down": "Q5_0"}),
    "Q3_K+IQ4_XS": ("Q3_K", {"token_embd": "IQ4_XS", "attn_v": "IQ4_XS", "ffn_down": "IQ4_XS"}),  # some are converted
    "Q4_0-F16": ("Q4_0", {"attn_output": "F16", "ffn_down": "F16"}),  # groups of less than a panel of q, gate and up
    "Q4_0+F16": ("Q4_0", {"attn_v": "F16", "ffn_up": "F16"}),  # weights of one sync that consume different formats
}


def kind_of(name: str, kind: str, layers: int) -> str:
    """The type of a matrix in a model of this kind. In Q4_K_M, as in llama.cpp, about half of the layers have Q6_K."""
    usual, others = MIXTURES.get(kind, (kind, {}))
    parts = name.split(".")
    if kind == "Q4_K_M" and parts[0] == "blk":
        layer, eighth = int(parts[1]), layers // 8
        if not (layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2):
            return usual
    return others.get(parts[-2], usual)


# What the gguf package reads but does not write: where the f16 scale and min are, and their sizes for random quants to
# have a standard deviation of 1.
RANDOM_BLOCKS = {
    "Q4_K": ((0, 1 / 250), (2, 0.03)), "Q5_K": ((0, 1 / 500), (2, 0.031)), "Q6_K": ((208, 1 / 1370),),
    "Q2_K": ((80, 1 / 16), (82, 0.09)), "Q3_K": ((108, 1 / 43.4),), "IQ4_NL": ((0, 1 / 67.4),),
    "IQ4_XS": ((0, 1 / 1250),),
}  # fmt: skip


KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", *RANDOM_BLOCKS, *MIXTURES)

LARGE = 1 << 20  # bytes from which on a matrix is made once


def random_matrix(random: np.random.Generator, kind: str, rows: int, columns: int, scale: float) -> NDArray[Any]:
    """A matrix of standard deviation `scale`, about: quantised normal values, or random blocks."""
    quant = gguf.GGMLQuantizationType[kind]
    if kind not in RANDOM_BLOCKS:
        return gguf.quants.quantize((random.standard_normal((rows, columns)) * scale).astype(np.float32), quant)
    values, size = gguf.GGML_QUANT_SIZES[quant]
    blocks = random.integers(0, 256, (rows * columns // values, size), np.uint8)
    for at, unit in RANDOM_BLOCKS[kind]:
        blocks[:, at : at + 2] = np.full((len(blocks), 1), unit * scale, np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def write_tiny(
    path: Path, kind: str = "F32", shape: Shape | None = None, seed: int = 7, name: str = "tiny-random"
) -> Path:
    """Write a model of the ggml type `kind`, or of a mixture, and return `path`, or the first of its parts.

    Large matrices are made once.
    """
    shape = shape or Shape()
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama", split_max_tensors=shape.split)
    _metadata(writer, name, shape)
    made: dict[tuple[str, int, int, float], NDArray[Any]] = {}

    def matrix(name: str, rows: int, columns: int, scale: float) -> None:
        this = kind_of(name, kind, shape.n_layers)
        key = this, rows, columns, scale
        values = made[key] if key in made else random_matrix(random, this, *key[1:])
        if values.size > LARGE:
            made[key] = values
        writer.add_tensor(name, values, raw_dtype=gguf.GGMLQuantizationType[this])

    def norm(name: str) -> None:
        writer.add_tensor(name, (1 + 0.1 * random.standard_normal(shape.d)).astype(np.float32))

    def bias(name: str, n: int) -> None:
        if shape.biases:
            writer.add_tensor(name, (0.3 * random.standard_normal(n)).astype(np.float32))

    q, kv = shape.columns * shape.n_heads, shape.columns * shape.n_kv_heads
    small = shape.d**-0.5
    matrix("token_embd.weight", shape.vocab, shape.d, 1.0)
    norm("output_norm.weight")
    if not shape.tied:
        matrix("output.weight", shape.vocab, shape.d, small)
    if shape.rope_freqs:  # the lower a frequency the more of it is divided
        writer.add_tensor("rope_freqs.weight", np.geomspace(1, 8, shape.columns // 2).astype(np.float32))
    for name_of_vector in shape.vectors:
        writer.add_tensor(name_of_vector, np.ones(shape.columns // 2, np.float32))
    for i in range(shape.n_layers):
        p = f"blk.{i}."
        norm(p + "attn_norm.weight")
        norm(p + "ffn_norm.weight")
        matrix(p + "attn_q.weight", q, shape.d, small)
        matrix(p + "attn_k.weight", kv, shape.d, small)
        matrix(p + "attn_v.weight", kv, shape.d, small)
        matrix(p + "attn_output.weight", shape.d, q, q**-0.5)
        matrix(p + "ffn_gate.weight", shape.ff, shape.d, small)
        matrix(p + "ffn_up.weight", shape.ff, shape.d, small)
        matrix(p + "ffn_down.weight", shape.d, shape.ff, shape.ff**-0.5 * (shape.down_scale if i == 1 else 1.0))
        for name, n in (("q", q), ("k", kv), ("v", kv), ("output", shape.d)):
            bias(f"{p}attn_{name}.bias", n)
        for name, n in (("gate", shape.ff), ("up", shape.ff), ("down", shape.d)):
            bias(f"{p}ffn_{name}.bias", n)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if not shape.split:
        return path
    return next(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a tiny random LLaMA GGUF file for tests.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="F32", choices=KINDS)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    print(write_tiny(args.out, args.type, seed=args.seed))


if __name__ == "__main__":
    main()
