"""`halo calibrate`: what it prints, its exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

from halo.model import demo_model, open_model
from halo.predictor import builtin_text, read_sidecar
from tests.conftest import SHARED_MODELS

CALIBRATE = [sys.executable, "-m", "halo.cli", "calibrate"]


def halo(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CALIBRATE, *map(str, arguments)], capture_output=True, text=True, timeout=280)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(demo_model(), tmp_path / "demo.gguf"))


def test_help_explains_what_it_is_for() -> None:
    out = halo("--help")
    assert out.returncode == 0
    assert all(word in out.stdout for word in ("--text", "--evaluate", "sidecar", "exit code", "Ctrl-C"))


def test_a_sidecar_is_made_beside_the_model_and_measured(model: Path) -> None:
    made = halo("-m", model, "--tokens", 2000, "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["sidecar"] == str(model.with_name("demo.halo.gguf"))
    assert report["text"] == {"name": "built-in", "sha256": builtin_text().sha256}
    assert "100%" in made.stderr and "\r" not in made.stderr  # lines where nobody watches a bar
    assert read_sidecar(Path(report["sidecar"]), open_model(model)).tokens == report["tokens"] < 2000

    other = model.with_name("other.txt")
    other.write_text("<|endoftext|>".join(builtin_text().documents[-8:]))
    measured = halo("-m", model, "--evaluate", other)
    assert measured.returncode == 0, measured.stderr
    rows = measured.stdout.splitlines()
    assert rows[0].split()[:4] == ["layer", "groups", "predictor", "static"]
    _, predictor, static, _, _ = rows[-2].split()
    assert float(predictor) > float(static)
    figures = json.loads(halo("-m", model, "--evaluate", other, "--json").stdout)
    assert len(figures["by_layer"]) == report["layers"]


def test_another_grid_is_for_evaluation_only(model: Path) -> None:
    sidecar = model.with_name("three.gguf")
    report = json.loads(halo("-m", model, "--tokens", 600, "--groups", 3, "-o", sidecar, "--json").stdout)
    assert set(report["groups"]) == {3}
    text = model.with_name("text.txt")
    text.write_text("\n".join(builtin_text().documents[:6]))
    assert halo("-m", model, "-o", sidecar, "--evaluate", text).returncode == 0
    out = halo("-m", model, "-o", sidecar, "--evaluate", text, "--groups", 3)
    assert (out.returncode, "--groups goes with calibration" in out.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-m", "nowhere.gguf"], 1, "does not exist"),
        (["--text", "nowhere.txt"], 1, "cannot be read"),
        (["--text", sys.executable], 1, "text"),
        (["--text", "/dev/null"], 1, "is empty"),
        (["--evaluate", __file__], 1, "There is no sidecar"),
        (["--text", "a", "--evaluate", "b"], 2, "not allowed with"),
        (["--tokens", "0"], 2, "from 512"),
        (["--groups", "33"], 2, "from 1 to 32"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: list[str], code: int, said: str, model: Path) -> None:
    given = arguments if "-m" in arguments else ["-m", str(model), *arguments]
    out = halo(*given)
    assert out.returncode == code
    assert said in out.stderr and "Traceback" not in out.stderr
    assert [path.name for path in model.parent.iterdir()] == ["demo.gguf"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_stopped_goes_on(model: Path, number: signal.Signals, code: int) -> None:
    arguments = [*CALIBRATE, "-m", str(model), "--json"]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert "0%" in running.stderr.readline()
    running.send_signal(number)
    out, said = running.communicate(timeout=60)
    assert (running.returncode, out) == (code, "")
    assert "goes on from demo.halo.gguf.part" in said
    assert sorted(path.name for path in model.parent.iterdir()) == ["demo.gguf", "demo.halo.gguf.part"]
    again = halo("-m", model, "--json")
    assert json.loads(again.stdout)["resumed"]
    assert sorted(path.name for path in model.parent.iterdir()) == ["demo.gguf", "demo.halo.gguf"]


@pytest.mark.parametrize(("name", "least"), [("stories260K", 0.50), ("halo5M", 0.55)])
def test_trained_models_are_ranked_as_well_as_promised(name: str, least: float, tmp_path: Path) -> None:
    if not SHARED_MODELS.exists():
        pytest.skip("the trained models are not here")
    documents = (SHARED_MODELS / "eval.txt").read_text().split("<|endoftext|>")
    half = len(documents) // 2
    for part, some in (("a.txt", documents[:half]), ("b.txt", documents[half:])):
        (tmp_path / part).write_text("<|endoftext|>".join(some))
    common = ("-m", SHARED_MODELS / f"{name}-f32.gguf", "-o", tmp_path / "out.gguf")
    learned = halo(*common, "--groups", 16, "--text", tmp_path / "a.txt")
    assert learned.returncode == 0, learned.stderr
    measured = halo(*common, "--evaluate", tmp_path / "b.txt", "--json")
    assert measured.returncode == 0, measured.stderr
    figures = json.loads(measured.stdout)
    assert figures["predictor"] >= least
    assert figures["predictor"] > figures["static"] + 0.2
