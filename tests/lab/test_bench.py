"""`halo bench sync` and `halo bench generate` over the laboratory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from halo.cell.broker import find_mosquitto

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
