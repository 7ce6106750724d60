"""The native code under AddressSanitizer and UBSan: buffers of exactly their size, every variant, hostile messages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake and a compiler")
@pytest.mark.timeout(600)
def test_nothing_reads_or_writes_beyond_its_buffers() -> None:
    # Kept between runs, so that only what changed is compiled again.
    build = ROOT / "build" / "sanitized"
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-DHALO_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (configure, ["cmake", "--build", str(build), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    done = subprocess.run([build / "sanitized"], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stderr[-4000:]
