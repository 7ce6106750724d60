#!/usr/bin/env python3
"""Writes tiny random LLaMA GGUF files, for tests that need a model but not sense.

    python tests/tiny_gguf.py OUT.gguf --type Q4_0 --seed 7

Every matrix of the file has the asked type; the tokenizer is byte-level SPM, so that llama.cpp loads it too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

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
    tied: bool = False
    down_scale: float = 1.0  # of layer 1's MLP: large values drive `fixed` partials out of their range


TOKENS = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] + [b"\xe2\x96\x81"]
TOKENS += [bytes([c]) for c in range(33, 93)]  # 320 in all


def _metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (len(TOKENS) - len(kinds))
    writer.add_name("tiny-random")
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.d)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_dimension_count(shape.d // shape.n_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(i) for i in range(len(TOKENS))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def write_tiny(path: Path, kind: str = "F32", shape: Shape | None = None, seed: int = 7) -> Path:
    """Write a model of the ggml type `kind`; returns `path`."""
    shape = shape or Shape()
    random = np.random.default_rng(seed)
    quant = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(path), "llama")
    _metadata(writer, shape)

    def matrix(name: str, rows: int, columns: int, scale: float) -> None:
        values: NDArray[np.float32] = (random.standard_normal((rows, columns)) * scale).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, quant), raw_dtype=quant)

    def norm(name: str) -> None:
        writer.add_tensor(name, (1 + 0.1 * random.standard_normal(shape.d)).astype(np.float32))

    kv = shape.d // shape.n_heads * shape.n_kv_heads
    small = shape.d**-0.5
    matrix("token_embd.weight", len(TOKENS), shape.d, 1.0)
    norm("output_norm.weight")
    if not shape.tied:
        matrix("output.weight", len(TOKENS), shape.d, small)
    for i in range(shape.n_layers):
        p = f"blk.{i}."
        norm(p + "attn_norm.weight")
        norm(p + "ffn_norm.weight")
        matrix(p + "attn_q.weight", shape.d, shape.d, small)
        matrix(p + "attn_k.weight", kv, shape.d, small)
        matrix(p + "attn_v.weight", kv, shape.d, small)
        matrix(p + "attn_output.weight", shape.d, shape.d, small)
        matrix(p + "ffn_gate.weight", shape.ff, shape.d, small)
        matrix(p + "ffn_up.weight", shape.ff, shape.d, small)
        matrix(p + "ffn_down.weight", shape.d, shape.ff, shape.ff**-0.5 * (shape.down_scale if i == 1 else 1.0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a tiny random LLaMA GGUF file for tests.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="F32", choices=["F32", "F16", "Q8_0", "Q4_0"])
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    print(write_tiny(args.out, args.type, seed=args.seed))


if __name__ == "__main__":
    main()
