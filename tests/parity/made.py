"""The made-up models that are compared with llama.cpp: every weight type, and every feature of a model file."""

from __future__ import annotations

from pathlib import Path

from halo import _native
from tests.llama.quantize import quantize
from tests.parity.harness import Parity, compare_rows, random_tokens
from tests.tiny_gguf import Shape, write_tiny

_HEADS = {"GQA": Shape(d=256, n_layers=2, ff=768), "MHA": Shape(d=256, n_layers=2, n_kv_heads=8, ff=768, tied=True)}

MADE: dict[str, tuple[str, Shape]] = {
    **{f"{kind}, {heads}": (kind, shape) for kind in _native.weight_types() for heads, shape in _HEADS.items()},
    "tied embeddings": ("Q8_0", Shape(tied=True)),
    "linear rope scaling": ("Q8_0", Shape(rope_scaling=4.0)),
    "rope_freqs": ("Q8_0", Shape(rope_freqs=True)),
    "biases": ("Q8_0", Shape(biases=True)),
    "split into files": ("Q8_0", Shape(split=7)),
    "all of these": ("Q4_0", Shape(tied=True, rope_scaling=2.0, rope_freqs=True, biases=True, split=9)),
    "ff 192": ("Q8_0", Shape(ff=192)),
    "8/4 heads of 64, ff 172": ("F32", Shape(n_heads=8, n_kv_heads=4, head_dim=64, ff=172)),
    "32/4 heads of 64, ff 5632": ("Q4_0", Shape(n_layers=2, n_heads=32, n_kv_heads=4, head_dim=64, ff=5632)),
    "32/32 heads of 80, ff 8960": ("Q8_0", Shape(n_layers=2, n_heads=32, n_kv_heads=32, head_dim=80, ff=8960)),
    "32/32 heads of 128, ff 11008": ("Q4_K", Shape(256, 2, n_heads=32, n_kv_heads=32, head_dim=128, ff=11008)),
    "14/2 heads of 64, ff 18944": ("Q4_0", Shape(n_layers=2, n_heads=14, n_kv_heads=2, head_dim=64, ff=18944)),
    "24/8 heads of 128, ff 13824": ("Q6_K", Shape(256, 2, n_heads=24, n_kv_heads=8, head_dim=128, ff=13824)),
    "9/3 heads of 64, ff 1536": ("Q8_0", Shape(d=576, n_layers=2, n_heads=9, n_kv_heads=3, ff=1536)),
}


def compare_made(name: str, folder: Path) -> list[Parity]:
    """Write the model into the folder, and compare."""
    kind, shape = MADE[name]
    path = folder / f"{name.replace(' ', '-').replace('/', '-')}.gguf"
    if shape in _HEADS.values() and kind != "F32":  # not every type can be written here
        quantize(write_tiny(folder / "f32.gguf", "F32", shape), kind, path)
    else:
        path = write_tiny(path, kind, shape)
    return compare_rows(path, name, random_tokens(shape.vocab))
