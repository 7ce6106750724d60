"""The scenarios of `benchmarks.trouble`, short: whatever happens to devices, the text is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from halo.cell.broker import find_mosquitto
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.usefixtures("can_make"),
    pytest.mark.skipif(not find_mosquitto(), reason="needs mosquitto"),
]
loses_workers = pytest.mark.xfail(strict=True, reason="a worker that is lost still ends the token")


def _play(*words: str) -> list[dict[str, Any]]:
    """The rows; bars are for a quiet machine, so the exit code does not matter."""
    command = [sys.executable, "-m", "benchmarks.trouble", "--json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows, done.stderr
    for row in rows:
        assert not row["found"].startswith("failed"), row["found"]
    return rows


@pytest.mark.parametrize(
    "scenario",
    [
        "cancel",
        "broker",
        pytest.param("all-die", marks=loses_workers),
        pytest.param("survive stories", marks=loses_workers),
    ],
)
def test_the_text_is_the_same_whatever_happens(scenario: str) -> None:
    same = [row["figures"]["same"] for row in _play("--only", scenario) if "same" in row["figures"]]
    assert same and all(same)


@loses_workers
def test_faults_in_a_row_lose_no_request_and_leave_nothing() -> None:
    (row,) = _play("--only", "soak", "--faults", "8")
    assert row["figures"]["same"] and row["figures"]["back"] and not row["figures"]["leaks"]


def test_a_scenario_that_fails_is_a_row_and_not_a_traceback() -> None:
    command = [sys.executable, "-m", "benchmarks.trouble", "--only", "cancel", "--stories", "/no/such.gguf"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "| cancel |  | failed: ModelError:" in done.stdout and "Traceback" not in done.stderr
