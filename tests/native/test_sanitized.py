"""The native code under AddressSanitizer and UBSan: buffers of exactly their size, every variant, hostile messages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.native.sanitized import built, needs_cmake

_FUZZ_RUNS = 40_000  # about 10 s


@needs_cmake
@pytest.mark.timeout(600)
def test_nothing_reads_or_writes_beyond_its_buffers() -> None:
    done = subprocess.run([built("sanitized")], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stderr[-4000:]


@needs_cmake
@pytest.mark.timeout(600)
def test_no_datagram_packet_or_message_does_harm(tmp_path: Path) -> None:
    """native/tests/fuzz_driver.cpp says how to go on for longer than this."""
    kept = tmp_path / "input"
    command = [built("fuzz"), str(_FUZZ_RUNS), kept]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    last = kept.read_bytes().hex() if kept.exists() else ""
    assert done.returncode == 0 and done.stdout == "ok\n", f"{done.stderr[-4000:]}\nthe input: {last}"
