"""HALO's logits are llama.cpp's, as far as llama.cpp's are its own: see `harness`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, SHARED_MODELS
from tests.llama.quantize import quantize
from tests.parity.harness import HEAD, Parity, compare
from tests.parity.made import MADE, compare_made

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


@pytest.mark.parametrize("name", MADE)
def test_every_type_and_feature_is_computed_as_by_llama_cpp(name: str, tmp_path: Path) -> None:
    check(compare_made(name, tmp_path))


@pytest.mark.parametrize(("kind", "most"), [("Q2_K", 2.0), ("IQ3_S", 2.0), ("IQ4_XS", 1.5)])
def test_types_that_are_converted_differ_by_their_rounding(kind: str, most: float, tmp_path: Path) -> None:
    model = quantize(DEMO[0], kind, tmp_path / f"{kind}.gguf")
    check(compare(model, ROOT / "models" / "eval.txt", count=2, positions=100), most)
