"""A re-ordered model is the same model, with the neurons that matter in its first groups."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from halo import _native
from halo.cli import parser
from halo.errors import ModelError, OutputError, SidecarError
from halo.model import Model, open_model
from halo.predictor import Text, calibrate
from halo.predictor.reorder import KEY, check_sidecars, check_source, check_target, neuron_order, write_reordered
from tests.conftest import TinyModel
from tests.predictor.conftest import SHAPE
from tests.tiny_gguf import Shape

TOKENS = np.random.default_rng(8).integers(3, SHAPE.vocab, 40).astype(np.int32)


def logits(model: Model) -> np.ndarray:
    return _native.Engine(model.native, 64, partials="f32").forward(0, TOKENS, True)


def reordered(model: Model, out: Path, pieces: list[np.ndarray], kind: str | None = None) -> Model:
    write_reordered(model, neuron_order(model, pieces), out, kind=kind)
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(out.name)] == [out.name]
    return open_model(out)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(("kind", "tolerance"), [("F32", 1e-4), ("F16", 1e-2), ("BF16", 5e-2), ("Q8_0", 5e-2)])
def test_it_computes_the_same(
    tiny_model: TinyModel, tmp_path: Path, pieces: list[np.ndarray], kind: str, tolerance: float, biases: bool
) -> None:
    model = open_model(tiny_model(kind, replace(SHAPE, biases=biases)))
    new = reordered(model, tmp_path / "hot.gguf", pieces)
    assert np.abs(logits(new) - logits(model)).max() <= tolerance * np.abs(logits(model)).max()


def test_it_is_another_model_with_the_same_metadata(model: Model, tmp_path: Path, pieces: list[np.ndarray]) -> None:
    """Nobody may take a sidecar or a worker of the one for the other."""
    new = reordered(model, tmp_path / "hot.gguf", pieces)
    assert new.identity != model.identity
    added = {key: value for key, value in new.file.metadata.items() if key not in model.file.metadata}
    assert list(added) == [KEY] and "hot to cold" in added[KEY]
    assert {key: new.file.metadata[key] for key in model.file.metadata} == model.file.metadata
    theirs, ours = (gguf.GGUFReader(path) for path in (model.path, new.path))
    tokens = "tokenizer.ggml.tokens"
    assert theirs.fields[tokens].contents() == ours.fields[tokens].contents()
    assert [t.name for t in theirs.tensors] == [t.name for t in ours.tensors]
    moved = {a.name for a, b in zip(theirs.tensors, ours.tensors, strict=True) if not np.array_equal(a.data, b.data)}
    assert moved == {f"blk.{i}.ffn_{name}.weight" for i in range(SHAPE.n_layers) for name in ("gate", "up", "down")}


def test_hot_neurons_come_first_and_padding_last(model: Model, pieces: list[np.ndarray]) -> None:
    spec = model.spec
    for layer, order in enumerate(neuron_order(model, pieces)):
        assert sorted(order) == list(range(spec.ff))
        down = model.file.tensors[f"blk.{layer}.ffn_down.weight"]
        assert down.shape == (spec.ff, spec.d)
    with_padding = Path(model.path).read_bytes()
    tensor = model.file.tensors["blk.0.ffn_gate.weight"]
    zeroed = bytearray(with_padding)
    zeroed[tensor.offset : tensor.offset + 4 * spec.d * 3] = bytes(4 * spec.d * 3)  # neurons 0 to 2 give nothing
    path = model.path.with_name("padded.gguf")
    path.write_bytes(zeroed)
    assert list(neuron_order(open_model(path), pieces)[0][-3:]) == [0, 1, 2]


def test_it_is_quantised_by_llama_cpp(tiny_model: TinyModel, tmp_path: Path, pieces: list[np.ndarray]) -> None:
    pytest.importorskip("llama_cpp")
    new = reordered(open_model(tiny_model("F32", SHAPE)), tmp_path / "hot.gguf", pieces, "Q8_0")
    assert new.file.tensors["blk.0.ffn_down.weight"].type_name == "Q8_0"
    assert KEY in new.file.metadata


def test_what_is_quantised_too_far_is_refused_before_any_work(tiny_model: TinyModel) -> None:
    with pytest.raises(ModelError, match=r"Q4_0.*--type"):
        check_source(open_model(tiny_model("Q4_0", Shape())))


def test_a_model_is_re_ordered_once(model: Model, tmp_path: Path, pieces: list[np.ndarray]) -> None:
    """A second key of the same name would be a file that llama.cpp refuses."""
    with pytest.raises(ModelError, match="already"):
        check_source(reordered(model, tmp_path / "hot.gguf", pieces))


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(model: Model, tmp_path: Path) -> None:
    for out in (tmp_path / "nowhere" / "hot.gguf", tmp_path):
        with pytest.raises(OutputError, match=r"cannot be written: .* folder"):
            check_target(model, out)


def test_the_model_itself_is_never_overwritten(model: Model, pieces: list[np.ndarray]) -> None:
    before = model.path.read_bytes()
    with pytest.raises(ModelError, match="itself"):
        write_reordered(model, neuron_order(model, pieces), model.path)
    assert model.path.read_bytes() == before


def test_a_device_is_never_replaced(model: Model, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="exists and is no file"):
        check_target(model, pipe)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--reorder", "m.halo.gguf"],
            "m.halo.gguf would be both the sidecar that is learned first and the re-",
        ),
        (["--reorder", "hot.gguf", "-o", "hot.halo.gguf"], "hot.halo.gguf would be both .* model's sidecar"),
        (["--reorder", "mine.gguf"], "mine.halo.gguf, where the re-ordered model's sidecar belongs, exists and is no"),
    ],
)
def test_what_would_write_over_a_sidecar_or_another_file_is_refused_before_any_work(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.halo.gguf").write_text("mine")
    with pytest.raises(SidecarError, match=said):
        arguments = parser().parse_args(["calibrate", "-m", "m.gguf", *options])  # there is no m.gguf to open
        arguments.run(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.halo.gguf"]
    assert Path("mine.halo.gguf").read_text() == "mine"


def test_a_sidecar_of_before_is_written_over(model: Model, pieces: list[np.ndarray], text: Text) -> None:
    calibrate(model, text, pieces, model.path.with_name("hot.halo.gguf"))
    check_sidecars(model.path.with_name("m.halo.gguf"), model.path.with_name("hot.gguf"))


def test_the_command_writes_model_and_both_sidecars(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    import shutil

    from halo.model import demo_model

    model = shutil.copy(demo_model(), tmp_path / "demo.gguf")
    command = [sys.executable, "-m", "halo.cli", "calibrate", "-m", model, "--tokens", "1000"]
    done = subprocess.run([*command, "--reorder", tmp_path / "hot.gguf"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo.gguf", "demo.halo.gguf", "hot.gguf", "hot.halo.gguf"]
    assert all(name in done.stdout for name in ("demo.halo.gguf", "hot.halo.gguf"))
    wrong = subprocess.run([*command, "--type", "Q4_0"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and "--reorder" in wrong.stderr
