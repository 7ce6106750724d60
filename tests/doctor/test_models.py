"""`halo doctor -m`: of a model that a hub or a worker would refuse it says the same, and examines the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import halo
from halo.cli import doctor, parser
from tests.conftest import TinyModel
from tests.tiny_gguf import K_SHAPE, Shape


def examined(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """The findings, by name."""
    arguments = parser().parse_args(["doctor", "--broker", "local", "-m", str(path), "--json"])
    code, shown = doctor.run(arguments), json.loads(capsys.readouterr().out)
    assert code == (1 if shown["bad"] + shown["warn"] else 0)
    found = {finding["name"]: finding for finding in shown["findings"]}
    assert {"memory", "kernels", "tcp-rto-min"} <= set(found)
    return found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qwen3", "a model of the architecture 'qwen3'"),
        (b"blk.1.ffn_up", b"blk.1.ffn_xy", "a tensor 'blk.1.ffn_xy.weight' that HALO does not know"),
        (b"<0x8D>", b"<0x8C>", "the token '<0x8C>' is there twice"),
    ],
)
def test_a_model_that_is_refused_is_bad(
    before: bytes, after: bytes, said: str, tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(tiny_model().read_bytes().replace(before, after))
    found = examined(path, capsys)
    assert found["model"]["status"] == "bad" and said in str(found["model"]["measured"])
    assert "tiny-random needs" not in str(found["memory"]["measured"])


def test_a_truncated_model_is_bad(tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_model().read_bytes()[:-4000])
    found = examined(path, capsys)["model"]
    assert found["status"] == "bad" and "is truncated or damaged" in str(found["measured"])


def test_a_package_that_is_missing_for_a_model_is_a_finding(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    found = examined(tiny_model("Q2_K", K_SHAPE), capsys)["model"]
    assert found["status"] == "bad" and "Q2_K" in str(found["measured"])
    assert found["mend"] == ["pip install 'halo-llm[convert]'"]


def test_without_the_native_module_the_rest_is_examined(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_model()
    for name in [name for name in sys.modules if name.startswith("halo.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "halo._native", None)
    monkeypatch.delattr(halo, "_native")
    found = examined(path, capsys)
    assert (found["model"]["status"], found["kernels"]["status"]) == ("unknown", "bad")


def test_a_good_model_is_compared_with_the_memory(tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    found = examined(tiny_model("F32", Shape(n_ctx=512)), capsys)
    assert "model" not in found and "for 512 positions" in str(found["memory"]["measured"])
