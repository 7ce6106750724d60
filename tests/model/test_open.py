"""Opening model files: what is read from good ones, and clear errors for bad ones."""

from __future__ import annotations

import itertools
import random
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from halo import ModelError
from halo.model import open_model
from halo.model.grid import attention_bounds, mlp_bounds
from halo.model.split import name_of, read_parts
from tests.conftest import TinyModel
from tests.native.in_process import alone
from tests.tiny_gguf import Shape


def test_opening_a_model_packs_nothing_of_it(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0"))
    assert model.native.resident() == [(0, 0)] * model.spec.n_layers


def test_a_good_file_is_described(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0"))
    assert model.name == "tiny-random"
    assert (model.spec.d, model.spec.n_layers, model.spec.n_heads, model.spec.n_kv_heads) == (64, 3, 8, 4)
    assert (model.spec.vocab, model.n_ctx_train, model.types) == (320, 256, "Q4_0")
    assert len(model.identity) == 64
    assert model.grid.mlp[0] == [0, 32, 64, 96, 128, 160]
    assert model.grid.attention[0] == [0, 2, 4]  # two KV heads: 2 x 2 x 8 columns are a block of 32


@pytest.mark.parametrize(
    ("name", "shown"),
    [("evil\x1b]0;PWNED\x07\nhalo: fake", "evil?]0;PWNED??halo: fake"), ("x" * 10_000, "x" * 80), ("a\u202eb", "a?b")],
)
def test_a_name_is_printed_in_one_short_line(tiny_model: TinyModel, name: str, shown: str) -> None:
    file = read_parts(tiny_model("F32"))
    file.metadata["general.name"] = name
    assert name_of(file) == shown


def test_identity_is_of_header_and_tensor_table(tiny_model: TinyModel, tmp_path: Path) -> None:
    original = tiny_model("F32")
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(original.read_bytes())
    assert open_model(copy).identity == open_model(original).identity
    assert open_model(tiny_model("F32", Shape(ff=172))).identity != open_model(original).identity


def test_content_is_the_same_on_devices_with_other_pages(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_model("F32", Shape(ff=192))
    here = open_model(path).content
    monkeypatch.setattr("mmap.PAGESIZE", 1 << 14)
    assert open_model(path).content == here


@pytest.mark.parametrize("split", [0, 4])
def test_content_tells_a_copy_with_other_weights(tiny_model: TinyModel, tmp_path: Path, split: int) -> None:
    original = open_model(tiny_model("Q4_0", Shape(split=split)))
    parts = original.file.parts
    for part in parts:
        (tmp_path / part.path.name).write_bytes(part.path.read_bytes())
    assert open_model(tmp_path / original.path.name).content == original.content
    last = parts[-1]
    data = last.path.read_bytes()
    (tmp_path / last.path.name).write_bytes(data[: last.start] + bytes(len(data) - last.start))  # a sparse copy
    copy = open_model(tmp_path / original.path.name)
    assert copy.identity == original.identity and copy.content != original.content


@pytest.mark.parametrize("ff", [172, 192, 768, 5632, 8960, 11008, 13824, 18944])
@pytest.mark.parametrize("block", [1, 32, 256])
def test_mlp_groups_cover_the_neurons_in_whole_blocks(ff: int, block: int) -> None:
    bounds = mlp_bounds(ff, block)
    sizes = [b - a for a, b in itertools.pairwise(bounds)]
    grain = block if block > 1 else 4
    assert bounds[0] == 0 and bounds[-1] == ff and 1 <= len(sizes) <= 32
    assert all(b % grain == 0 for b in bounds[:-1]) and min(sizes) > 0
    assert max(sizes) - min(sizes[:-1] or sizes) <= grain


@pytest.mark.parametrize(("heads", "kv"), [(8, 4), (32, 4), (32, 32), (14, 2), (24, 8)])
@pytest.mark.parametrize("head_dim", [8, 64, 80, 128])
@pytest.mark.parametrize("block", [1, 32, 256])
def test_attention_groups_are_whole_blocks_of_the_output_projection(
    heads: int, kv: int, head_dim: int, block: int
) -> None:
    columns = heads // kv * head_dim
    bounds = attention_bounds(kv, columns, block)
    assert bounds[0] == 0 and bounds[-1] == kv
    assert all(b * columns % block == 0 for b in bounds[:-1])
    assert all(fewer * columns % block for fewer in range(1, bounds[1]) if bounds[1] < kv)  # the smallest there are


@pytest.mark.parametrize("kv", [65, 96, 100, 128, 200])
@pytest.mark.parametrize("columns", [32, 64, 96, 128, 256])
def test_many_heads_are_at_most_64_groups_of_whole_blocks(kv: int, columns: int) -> None:
    bounds = attention_bounds(kv, columns, 256)
    assert len(bounds) - 1 <= 64 and bounds[-1] == kv
    assert all(b * columns % 256 == 0 for b in bounds[:-1])


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ((), {"rope_scaling": 1.0}),
        ((("llama.rope.scaling.type", "linear"), ("llama.rope.scaling.factor", 4.0)), {"rope_scaling": 4.0}),
        ((("llama.rope.scaling.factor", 4.0),), {"rope_scaling": 4.0}),
        ((("llama.rope.scale_linear", 2.0),), {"rope_scaling": 2.0}),
        ((("llama.rope.scale_linear", 2.0), ("llama.rope.scaling.factor", 0.0)), {"rope_scaling": 1.0}),
        ((("llama.rope.scaling.type", "none"), ("llama.rope.scaling.factor", 4.0)), {"rope_scaling": 1.0}),
        ((("llama.attention.head_count", (8, 8, 8)),), {"n_heads": 8}),
        ((("llama.attention.head_count_kv", (4, 4, 4)),), {"n_kv_heads": 4}),
        ((("llama.feed_forward_length", (160, 160, 160)),), {"ff": 160}),
        ((("llama.attention.sliding_window", 4096),), {}),  # as llama.cpp: not looked at
        ((("llama.vocab_size", 32000),), {"vocab": 320}),  # the embedding counts
    ],
)
def test_what_llama_cpp_understands_is_read_as_it_does(
    tiny_model: TinyModel, extra: tuple[tuple[str, object], ...], expected: dict[str, float]
) -> None:
    spec = asdict(open_model(tiny_model("F32", Shape(metadata=extra))).spec)
    assert {key: spec[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.rope.scaling.type", "yarn", "'yarn'"),
        ("llama.rope.scaling.type", "longrope", "'longrope'"),
        ("llama.rope.scaling.type", 3, "scaled by 3"),
        ("llama.rope.scaling.attn_factor", 1.2, "attn_factor"),
        ("llama.rope.scaling.factor", -2.0, "rope scaling factor must be"),
        ("llama.rope.scaling.factor", "two", "llama.rope.scaling.factor is missing or not a number"),
        ("llama.rope.freq_base", 1e30, "rope base"),
        ("llama.attention.head_count", (8, 4, 8), "llama.attention.head_count differs from layer to layer"),
        ("llama.attention.head_count_kv", (4, 4, 8), "llama.attention.head_count_kv differs from layer to layer"),
        ("llama.feed_forward_length", (160, 80, 160), "llama.feed_forward_length differs from layer to layer"),
        ("llama.expert_count", 8, "mixture of experts"),
        ("llama.attention.causal", False, "in both directions"),
        ("llama.attention.value_length", 4, "different lengths"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tiny_model: TinyModel, key: str, value: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(tiny_model("F32", Shape(metadata=((key, value),))))


def test_version_2_of_the_format_is_the_same_model(tiny_model: TinyModel, tmp_path: Path) -> None:
    data = bytearray(tiny_model("Q8_0").read_bytes())
    assert data[4] == 3
    data[4] = 2
    path = tmp_path / "v2.gguf"
    path.write_bytes(data)
    tokens = np.array([1, 50, 60], np.int32)
    assert np.array_equal(alone(open_model(path), tokens), alone(open_model(tiny_model("Q8_0")), tokens))


def test_frequencies_that_old_converters_wrote_are_ignored(tiny_model: TinyModel) -> None:
    old = Shape(vectors=("blk.0.attn_rot_embd.weight", "blk.1.attn_rot_embd.weight"))
    assert open_model(tiny_model("F32", old)).spec == open_model(tiny_model("F32")).spec
    with pytest.raises(ModelError, match="attn_qkv"):
        open_model(tiny_model("F32", Shape(vectors=("blk.0.attn_qkv.weight",))))


@pytest.mark.parametrize("name", ["rope_freqs.weight", "blk.1.attn_output.bias", "blk.0.ffn_up.bias"])
def test_vectors_of_a_wrong_length_are_refused(tiny_model: TinyModel, name: str) -> None:
    shape = Shape(vectors=(name,), head_dim=16)
    if name == "rope_freqs.weight":  # that one has the right length
        open_model(tiny_model("F32", shape))
        shape = Shape(vectors=(name,), metadata=(("llama.rope.dimension_count", 4),))
    with pytest.raises(ModelError, match=f"tensor {name} has shape"):
        open_model(tiny_model("F32", shape))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rope_freqs_are_refused(tiny_model: TinyModel, tmp_path: Path, value: float) -> None:
    source = tiny_model("F32", Shape(rope_freqs=True))
    data = bytearray(source.read_bytes())
    struct.pack_into("<f", data, open_model(source).file.tensors["rope_freqs.weight"].offset + 4, value)
    path = tmp_path / "freqs.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"rope_freqs\.weight has values beyond"):
        open_model(path)


def test_llama2_7b_in_k_quants_pairs_its_heads() -> None:
    assert attention_bounds(32, 128, 256) == list(range(0, 33, 2))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\x89PNG" + bytes(100), b"GGUF" + bytes(100)])
def test_what_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.gguf"):
        open_model(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tiny_model: TinyModel, tmp_path: Path) -> None:
    whole = tiny_model("Q8_0").read_bytes()
    path = tmp_path / "cut.gguf"
    drawn = random.Random(5)
    for _ in range(100):
        path.write_bytes(whole[: drawn.randrange(len(whole))])
        with pytest.raises(ModelError):
            open_model(path)


def test_flipped_bits_in_the_header_are_survived(tiny_model: TinyModel, tmp_path: Path) -> None:
    whole = tiny_model("F16").read_bytes()
    path = tmp_path / "flipped.gguf"
    drawn = random.Random(6)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[drawn.randrange(9000)] ^= 1 << drawn.randrange(8)
        path.write_bytes(damaged)
        try:
            open_model(path)
        except ModelError:
            continue


def _patched(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    data = source.read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new)
    target.write_bytes(data.replace(old, new))
    return target


def test_another_architecture_is_named(tiny_model: TinyModel, tmp_path: Path) -> None:
    key = b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00"
    path = _patched(tiny_model("F32"), tmp_path / "qwen3.gguf", key + b"llama", key + b"qwen3")
    with pytest.raises(ModelError, match="'qwen3'"):
        open_model(path)


def test_an_adapter_is_named_as_one(tiny_model: TinyModel) -> None:
    with pytest.raises(ModelError, match=r"is an adapter \(LoRA\).*llama-export-lora"):
        open_model(tiny_model("F32", Shape(metadata=(("general.type", "adapter"),))))


@pytest.mark.parametrize("key", ["llama.block_count", "llama.context_length"])
@pytest.mark.parametrize(
    "kind, value", [(6, float("inf")), (6, float("nan")), (5, -5), (4, 0)], ids=["inf", "nan", "negative", "zero"]
)
def test_impossible_dimensions_are_named(
    tiny_model: TinyModel, tmp_path: Path, key: str, kind: int, value: float
) -> None:
    whole = tiny_model("F32").read_bytes()
    at = whole.index(key.encode()) + len(key)
    number = struct.pack({4: "<I", 5: "<i", 6: "<f"}[kind], value)
    path = tmp_path / "odd.gguf"
    path.write_bytes(whole[:at] + struct.pack("<I", kind) + number + whole[at + 8 :])
    with pytest.raises(ModelError, match=f"{key} (has the impossible value|is missing or not a number)"):
        open_model(path)


def test_another_tensor_type_is_named(tiny_model: TinyModel, tmp_path: Path) -> None:
    name = b"blk.0.ffn_up.weight\x02\x00\x00\x00" + (64).to_bytes(8, "little") + (160).to_bytes(8, "little")
    path = _patched(tiny_model("F16"), tmp_path / "q2.gguf", name + b"\x01\x00\x00\x00", name + b"\x0a\x00\x00\x00")
    with pytest.raises(ModelError, match=r"Q2_K.*blk\.0\.ffn_up"):
        open_model(path)


def test_an_unknown_tensor_is_not_ignored(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = _patched(tiny_model("F32"), tmp_path / "odd.gguf", b"blk.1.attn_q.weight", b"blk.1.attn_q.biases")
    with pytest.raises(ModelError, match="attn_q"):
        open_model(path)
