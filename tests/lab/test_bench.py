"""`halo bench sync` and `halo bench generate` over the laboratory."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from halo.cell.broker import find_mosquitto
from tests.lab.conftest import gone

pytestmark = [
    pytest.mark.usefixtures("can_make"),
    pytest.mark.skipif(not find_mosquitto(), reason="needs mosquitto"),
]


def _bench(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "halo.cli", "bench", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_sync_alternates_between_without_and_with_loss() -> None:
    found = _bench("sync", "--workers", "2", "--delay", "1", "--loss", "5", "--tokens", "2")
    good = found["without_loss"]
    assert found["network"] == "switch"
    for figures in (found, good):
        assert figures["tokens"] == 2
        assert 2 * 44 <= figures["p50_ms"] <= figures["p95_ms"] <= figures["max_ms"]
        assert figures["sync_p99_ms"] >= 2
        # requests in two segments and replies in three, to and from two workers
        assert figures["datagrams_per_token"] >= 44 * 2 * 5
        assert figures["bytes_per_token"] >= 44 * 2 * (2176 + 4096)
        assert figures["overhead"] >= 1
    assert good["lost_per_token"] == 0 < found["lost_per_token"]
    assert found["ratio"] == round(found["mean_ms"] / good["mean_ms"], 3)


def test_sync_without_delay_is_carried_by_the_kernel() -> None:
    found = _bench("sync", "--workers", "1", "--delay", "0", "--tokens", "1", "--partials", "fixed")
    assert found["network"] == "kernel"
    assert found["reply_bytes"] == 8192
    assert "without_loss" not in found


def test_sync_runs_over_ipv6() -> None:
    assert _bench("sync", "--workers", "1", "--ipv6", "--tokens", "1")["tokens"] == 1


def _children(pid: int) -> list[Path]:
    """The processes that this one has started, in /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # some end while we look
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(path.parent)
    return found


def test_killed_it_leaves_nothing() -> None:
    """Not the network, nor the broker, nor a worker."""
    command = [sys.executable, "-m", "halo.cli", "bench", "sync", "--workers", "2", "--delay", "1", "--tokens", "500"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        while "computing with" not in (said := bench.stderr.readline()):
            assert said
        children = _children(bench.pid)
        assert len(children) == 4
        bench.kill()
    assert all(gone(child) for child in children)


def test_generate_gives_the_same_bits_whatever_the_network_does() -> None:
    bad = ("--loss", "2", "--duplicate", "10", "--reorder", "10")
    found = _bench("generate", "--workers", "2", "--delay", "0.2", *bad, "--tokens", "3")
    assert found["same_bits"] is True
    assert found["tokens"] == found["without_loss"]["tokens"] == 3
    assert found["prompt_tokens"] == 16


@pytest.mark.parametrize("wrong", [["--burst", "4"], ["--loss", "5", "--broker", "mqtt://pi1"], ["--loss", "101"]])
def test_options_that_do_not_fit_are_told(wrong: list[str]) -> None:
    command = [sys.executable, "-m", "halo.cli", "bench", "sync", "--workers", "1", *wrong]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert "error:" in done.stderr and "Traceback" not in done.stderr
