"""Calibration as a whole: what it writes, and how it stops and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halo.errors import SidecarError
from halo.model import Model, open_model
from halo.predictor import Paused, Sidecar, Summary, Text, calibrate, evaluate, read_sidecar
from tests.conftest import TinyModel
from tests.predictor.conftest import SHAPE

Pieces = list[np.ndarray]


def stopping_after(calls: int):
    """For `stop`: says so from that call on."""
    count = iter(range(1 << 30))
    return lambda: next(count) >= calls


def assert_same(a: Sidecar, b: Sidecar) -> None:
    for one, other in zip(a.layers, b.layers, strict=True):
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_allclose(one.significance, other.significance, rtol=1e-5)
        np.testing.assert_allclose(one.predictor, other.predictor, rtol=0.01, atol=1e-4)
        np.testing.assert_allclose(one.bias, other.bias, atol=1e-3)


@pytest.fixture
def whole(model: Model, text: Text, pieces: Pieces, tmp_path: Path) -> Summary:
    return calibrate(model, text, pieces, tmp_path / "whole.gguf")


def test_the_sidecar_says_what_it_is_of_and_nothing_else_is_left(whole: Summary, model: Model, tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.iterdir()] == ["whole.gguf"]
    sidecar = read_sidecar(tmp_path / "whole.gguf", model)
    assert (sidecar.identity, sidecar.text_name, sidecar.tokens) == (model.identity, "made-up", 324)
    assert [layer.bounds for layer in sidecar.layers] == model.grid.mlp
    assert all((layer.significance > 0).all() for layer in sidecar.layers)
    assert not whole.resumed


def test_the_predictor_ranks_better_than_the_static_table(whole: Summary, model: Model, pieces: Pieces) -> None:
    result = evaluate(model, whole.sidecar, pieces)
    assert result.tokens == 324
    assert result.mean("predictor") > result.mean("static") + 0.05


def test_threads_change_little(whole: Summary, model: Model, text: Text, pieces: Pieces, tmp_path: Path) -> None:
    assert_same(calibrate(model, text, pieces, tmp_path / "other.gguf", threads=3).sidecar, whole.sidecar)


@pytest.mark.parametrize("calls", [0, 3, 7, 11, 14, 19, 24, 26])
def test_a_calibration_that_was_stopped_goes_on(
    calls: int, whole: Summary, model: Model, text: Text, pieces: Pieces, tmp_path: Path
) -> None:
    output = tmp_path / "stopped.gguf"
    with pytest.raises(Paused):
        calibrate(model, text, pieces, output, stop=stopping_after(calls))
    assert (tmp_path / "stopped.gguf.part").exists() and not output.exists()
    seen: list[tuple[str, int, int]] = []
    resumed = calibrate(model, text, pieces, output, progress=lambda *now: seen.append(now))
    assert resumed.resumed
    assert_same(resumed.sidecar, whole.sidecar)
    assert not (tmp_path / "stopped.gguf.part").exists()
    if calls:  # nothing is done twice
        assert seen[0] != ("means", 32, 329)


def test_stopping_again_and_again_ends_all_the_same(
    whole: Summary, model: Model, text: Text, pieces: Pieces, tmp_path: Path
) -> None:
    output = tmp_path / "stopped.gguf"
    for _ in range(100):
        try:
            resumed = calibrate(model, text, pieces, output, stop=stopping_after(5))
        except Paused:
            continue
        break
    assert_same(resumed.sidecar, whole.sidecar)


@pytest.mark.parametrize("what", ["text", "grid", "pieces", "weights"])
def test_a_checkpoint_of_another_calibration_is_not_gone_on_from(
    what: str, model: Model, text: Text, pieces: Pieces, tmp_path: Path
) -> None:
    output = tmp_path / "stopped.gguf"
    with pytest.raises(Paused):
        calibrate(model, text, pieces, output, stop=stopping_after(9))
    if what == "text":
        text = Text("other", "11" * 32, [])
    elif what == "grid":
        model = open_model(model.path, mlp_groups=8)
    elif what == "weights":
        data = bytearray(model.path.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        (tmp_path / "other.gguf").write_bytes(data)
        model = open_model(tmp_path / "other.gguf", mlp_groups=4)
    else:
        pieces = pieces[1:]
    assert not calibrate(model, text, pieces, output).resumed


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "pickle"])
def test_a_damaged_checkpoint_is_begun_anew(
    damage: str, whole: Summary, model: Model, text: Text, pieces: Pieces, tmp_path: Path
) -> None:
    output, part = tmp_path / "stopped.gguf", tmp_path / "stopped.gguf.part"
    with pytest.raises(Paused):
        calibrate(model, text, pieces, output, stop=stopping_after(9))
    data = part.read_bytes()
    if damage == "pickle":
        with part.open("wb") as file:
            np.savez(file, head=np.array([{"key": "x"}], dtype=object))
    else:
        part.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "noise": bytes(range(256)) * 9}[damage])
    again = calibrate(model, text, pieces, output)
    assert not again.resumed
    assert_same(again.sidecar, whole.sidecar)


def test_a_file_that_is_no_sidecar_is_left_alone(model: Model, text: Text, pieces: Pieces, tmp_path: Path) -> None:
    output = tmp_path / "model.gguf"
    output.write_bytes(model.path.read_bytes())
    with pytest.raises(SidecarError, match="is no sidecar"):
        calibrate(model, text, pieces, output)
    assert output.read_bytes() == model.path.read_bytes()


def test_a_sidecar_is_replaced(whole: Summary, model: Model, text: Text, pieces: Pieces, tmp_path: Path) -> None:
    calibrate(model, Text("new", text.sha256, []), pieces, tmp_path / "whole.gguf")
    assert read_sidecar(tmp_path / "whole.gguf", model).text_name == "new"


def test_groups_of_padding_are_empty_and_in_no_quota(
    tiny_model: TinyModel, text: Text, pieces: Pieces, tmp_path: Path
) -> None:
    padded = tmp_path / "padded.gguf"
    padded.write_bytes(tiny_model("F32", SHAPE).read_bytes())
    down = open_model(padded).file.tensors["blk.1.ffn_down.weight"]
    weights = np.memmap(padded, "<f4", "r+", down.offset, (SHAPE.d, SHAPE.ff))
    weights[:, 32:] = 0  # groups 2 and 3 of 4
    weights.flush()
    sidecar = calibrate(open_model(padded, mlp_groups=4), text, pieces, tmp_path / "padded.halo.gguf").sidecar
    assert [list(layer.counted) for layer in sidecar.layers] == [[True] * 4, [True, True, False, False]]
    assert sidecar.quotas(0.5) == [2, 1]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16", "Q4_0+F16"])
def test_quantised_models_are_calibrated_as_they_are(
    kind: str, tiny_model: TinyModel, text: Text, pieces: Pieces, tmp_path: Path
) -> None:
    model = open_model(tiny_model(kind, SHAPE))
    sidecar = calibrate(model, text, pieces, tmp_path / "out.gguf").sidecar
    assert np.isfinite(evaluate(model, sidecar, pieces).mean("predictor"))
