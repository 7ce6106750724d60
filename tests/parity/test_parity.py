"""HALO's logits are llama.cpp's, as far as llama.cpp's are its own: see `harness`."""

from __future__ import annotations

from pathlib import Path

import pytest

from halo import _native
from tests.conftest import ROOT, SHARED_MODELS
from tests.llama.quantize import quantize
from tests.parity.harness import HEAD, Parity, compare
from tests.tiny_gguf import Shape, write_tiny

DEMO = [ROOT / "models" / f"halo-demo-{kind}.gguf" for kind in ("q8_0", "q4_0")]
TYPES = ("f32", "f16", "q8_0", "q4_0", "q4_k_m")  # of the shared models
SHARED = [path for path in sorted(SHARED_MODELS.glob("*.gguf")) if path.stem.endswith(TYPES)]


def check(results: list[Parity], most: float = 1.5) -> None:
    print(f"\n{HEAD}")
    for result in results:
        print(result.row())
        assert result.flips == 0, f"{result.flips} of {result.clear} clear positions have another argmax"
        assert result.on.flips == 0, f"{result.on.flips} positions differ from llama.cpp with flash attention on"
        assert result.ratio() <= most


@pytest.mark.parametrize("model", DEMO + SHARED, ids=lambda path: path.stem)
def test_logits_are_those_of_llama_cpp(model: Path) -> None:
    if not model.is_file():
        pytest.skip(f"{model.name} is not there")
    check(compare(model, model.parent / "eval.txt"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models to quantise: one that makes sense, with shared KV heads; a random one without, whose head is tied."""
    shape = Shape(d=256, n_kv_heads=8, ff=768, n_ctx=512, tied=True)
    mha = write_tiny(tmp_path_factory.mktemp("parity") / "mha.gguf", "F32", shape)
    return {"GQA": DEMO[0], "MHA": mha}


@pytest.mark.parametrize("heads", ["GQA", "MHA"])
@pytest.mark.parametrize("kind", [kind for kind in _native.weight_types() if kind != "F32"])
def test_every_type_of_weights_is_computed_as_llama_cpp_does(
    kind: str, heads: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    model = quantize(sources[heads], kind, tmp_path / f"{heads}-{kind}.gguf")
    check(compare(model, ROOT / "models" / "eval.txt", count=2, positions=100))


@pytest.mark.parametrize("kind", ["Q2_K", "IQ3_S", "IQ4_XS"])
def test_types_that_are_converted_differ_by_the_rounding_to_8_bits(
    kind: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    model = quantize(sources["GQA"], kind, tmp_path / f"{kind}.gguf")
    check(compare(model, ROOT / "models" / "eval.txt", count=2, positions=100), most=2.0)
