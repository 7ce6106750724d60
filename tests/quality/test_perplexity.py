"""`halo perplexity`: the same perplexity as llama.cpp's, lateness that is counted, and errors that help."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from math import exp, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halo import _native
from halo.model import open_model
from halo.perplexity import Comparison, Lateness, mean_and_spread, predictions_of, run, sequences_of
from halo.predictor import read_text
from halo.predictor.text import open_tokenizer
from tests.llama.oracle import Oracle
from tests.quality.conftest import HALO
from tests.tiny_gguf import write_tiny


def perplexity(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HALO, "perplexity", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def report(*arguments: object) -> dict[str, Any]:
    done = perplexity(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_exact_is_llama_cpps(calibrated: Path, stories: Path) -> None:
    model = open_model(calibrated)
    sequences = sequences_of(read_text(stories, 10_000), open_tokenizer(calibrated), 256, 10_000)
    assert [int(s[0]) for s in sequences] == [1, 1]  # the begin of sequence
    with Oracle(calibrated, flash_attn=True) as oracle:
        theirs = run(oracle, sequences, single=False)
    ours = run(_native.Engine(model.native, 256), sequences, single=False)
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=0.005)
    assert len(ours.best) == predictions_of(sequences)
    single = run(_native.Engine(model.native, 256), sequences, single=True)
    assert single.loss == pytest.approx(ours.loss, rel=1e-12)
    assert np.array_equal(single.best, ours.best)


def test_the_loss_is_the_mean_of_minus_log_p() -> None:
    class Even:
        def forward(self, slot: int, tokens: Any, all_logits: bool = False) -> Any:
            return np.zeros((len(tokens), 8), np.float32)

        def truncate(self, slot: int, n: int) -> None:
            pass

    done = run(Even(), [np.array([1, 2, 0], np.int32)], single=True)
    assert exp(done.loss) == pytest.approx(8)
    assert done.accuracy == 0.5  # the first of equals is taken


def test_what_is_late_is_counted_and_changes_something(calibrated: Path, stories: Path) -> None:
    found = report("-m", calibrated, "--text", stories, "--quality", "fast", "--late", 50, "--seeds", 2)
    assert found["quality"] == "fast" and len(found["passes"]) == 2
    layers = open_model(calibrated).spec.n_layers
    expected = 0.5 * 0.5 * (layers - 2) / layers  # half of half of the groups of all layers but two
    assert found["late_share"] == pytest.approx(expected, rel=0.2)
    assert found["perplexity"] != found["exact"] and 0 < found["agreement"] <= 1
    assert found["passes"][0]["perplexity"] != found["passes"][1]["perplexity"]


def test_devices_fade_for_their_part_of_the_time(calibrated: Path, stories: Path) -> None:
    found = report(
        "-m", calibrated, "--text", stories, "--quality", "fast", "--late", 30, "--late-fade", 10, "--workers", 2
    )
    assert 0 < found["late_share"] < 0.5 and found["change_spread"] > 0


def test_without_lateness_relaxed_is_exact(calibrated: Path, stories: Path) -> None:
    found = report("-m", calibrated, "--text", stories, "--quality", "balanced")
    assert found["perplexity"] == found["exact"] and found["late_share"] == 0


def test_planned_lateness_needs_no_cell_to_be_measured(calibrated: Path, stories: Path) -> None:
    planned = report("-m", calibrated, "--text", stories, "--quality", "late:0.5")
    injected = report("-m", calibrated, "--text", stories, "--quality", "fast", "--late", 100)
    assert planned["late_share"] == injected["late_share"] > 0.1
    assert planned["perplexity"] == injected["perplexity"] != planned["exact"]


def test_who_wants_lateness_without_a_sidecar_is_told_what_is_missing(
    calibrated: Path, stories: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copy(calibrated, tmp_path / "alone.gguf"))
    found = report("-m", alone, "--text", stories, "--late", 20)
    assert found["quality"] == "exact" and "halo calibrate" in found["reason"]
    assert report("-m", alone, "--text", stories)["reason"] is None


def test_a_cell_is_measured_as_it_is(calibrated: Path, stories: Path) -> None:
    found = report("-m", calibrated, "--text", stories, "--quality", "exact", "--workers", 1, "--limit", 64)
    assert found["perplexity"] == found["exact"] and found["predictions"] == 64


def test_a_table_is_printed_for_people(calibrated: Path, stories: Path) -> None:
    done = perplexity("-m", calibrated, "--text", stories, "--quality", "balanced", "--late", 20, "--seeds", 1)
    lines = done.stdout.splitlines()
    assert "predictions in 2 documents" in lines[0]
    assert lines[1].split() == ["perplexity", "change", "late", "agreement", "accuracy"]
    assert lines[2].startswith("exact") and lines[3].startswith("balanced")
    assert "100%" in done.stderr


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "empty"), (b"\0\1\2" * 100, "binary"), (b"Too short.", "too few"), (b"\xff\xfe", "UTF-8")],
)
def test_a_text_that_says_nothing_is_refused(calibrated: Path, tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    done = perplexity("-m", calibrated, "--text", path)
    assert done.returncode == 1 and word in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--late-fade", 10),
        ("--late", 0, "--late-fade", 10),
        ("--late", 10, "--sync-ms", 2),
        ("--late", 10, "--broker", "mqtt://nowhere"),
        ("--workers", 1, "--groups", 4),
        ("--quality", "best"),
        ("--quality", "exact", "--late", 10),
        ("--drop", "zero"),
        ("--late", 120),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    calibrated: Path, stories: Path, arguments: tuple[object, ...]
) -> None:
    done = perplexity("-m", calibrated, "--text", stories, *arguments)
    assert done.returncode == 2 and "error" in done.stderr


def test_a_bad_sidecar_is_an_error_where_it_is_named_and_else_a_reason(
    calibrated: Path, stories: Path, tmp_path: Path
) -> None:
    model = shutil.copy(calibrated, tmp_path / "bad.gguf")
    bad = tmp_path / "bad.halo.gguf"
    bad.write_bytes(b"no sidecar")
    arguments = ("-m", model, "--text", stories, "--quality", "fast", "--late", 20)
    named = perplexity(*arguments, "--sidecar", bad)
    assert named.returncode == 1 and f"{bad} is no GGUF file" in named.stderr and not named.stdout
    found = report(*arguments)
    assert found["quality"] == "exact" and str(bad) in found["reason"]


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1e30, "The model's perplexity is beyond every number"),
        (np.nan, "the output head gives values that are not finite"),
    ],
)
def test_a_damaged_head_is_an_error_and_no_figure(factor: float, said: str, stories: Path, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "damaged.gguf", "F32")
    head, data = open_model(path).file.tensors["output.weight"], bytearray(path.read_bytes())
    np.frombuffer(data, np.float32, prod(head.shape), head.offset)[:] *= np.float32(factor)
    path.write_bytes(data)
    done = perplexity("-m", path, "--text", stories, "--json")
    assert done.returncode == 1 and not done.stdout
    assert said in done.stderr and "may be damaged" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_ends_it(calibrated: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text("<|endoftext|>".join(["Once upon a time there was a dog. " * 20] * 400))
    command = [*HALO, "perplexity", "-m", calibrated, "--text", long, "--quality", "fast", "--late", "20"]
    process = subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "%" not in process.stderr.readline():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in rest


def test_means_and_spreads() -> None:
    assert mean_and_spread([2.0]) == (2.0, 0.0)
    assert mean_and_spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert Lateness(0.5).drop == "correct"
    exact = run_of([1, 2, 3], 1.0)
    counted = {"mlp_groups": 10, "late_groups": 2, "tolerant_groups": 5, "corrected_groups": 2}
    found = Comparison.of(exact, run_of([1, 2, 4], 2.0), counted)
    assert (found.agreement, found.late_share) == (pytest.approx(2 / 3), 0.2)


def run_of(best: list[int], loss: float) -> Any:
    from halo.perplexity import Pass

    return Pass(loss, np.array(best, np.int32), 0.5)
