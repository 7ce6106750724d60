"""The benchmarks run and say what they promise; how fast anything is, no test asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from halo import ModelError
from halo.bench import bench_kernels, bench_model
from tests.conftest import TinyModel


def test_a_model_is_measured_with_every_case(tiny_model: TinyModel, plain_llama_cpp: None) -> None:
    report = bench_model(tiny_model("Q8_0"), threads=[1], rounds=1, context=64, processes=2)
    assert [figure["case"] for figure in report["results"]] == ["prompt", "token", "long"]
    assert all(figure["value"] > 0 for figure in report["results"])
    assert (report["group"]["groups"], report["group"]["neurons"]) == (5, 32)
    assert report["group"]["ratio"] > 0
    assert report["memory"] is None or report["memory"]["weights"] > 0
    (together,) = report["processes"]
    assert together["processes"] == 2 and together["threads"] == 1 and together["value"] > 0


def test_a_model_over_which_llama_cpp_would_abort_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model("Q8_0").read_bytes().replace(b"<0x8D>", b"<0x8C>"))
    with pytest.raises(ModelError, match="the token '<0x8C>' is there twice"):
        bench_model(path, threads=[1], rounds=1)


def test_kernels_are_measured_as_documented() -> None:
    report = bench_kernels("portable", rounds=1, types=["Q4_0"], cases=["hot"])
    (figure,) = report["kernels"]
    assert set(figure) == {"type", "case", "gb_s", "gflop_s", "llama_cpp_gb_s", "llama_cpp_best", "ratio"}
    assert figure["gb_s"] > 0 and report["isa"] == "portable" and report["bandwidth_gb_s"] > 0
