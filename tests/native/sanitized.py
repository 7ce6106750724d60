"""Builds the native tests under AddressSanitizer and UBSan."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Kept between runs, so that only what changed is compiled again.
BUILD = ROOT / "build" / "sanitized"
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake and a compiler")


def built(program: str) -> Path:
    configure = ["cmake", "-S", str(ROOT), "-B", str(BUILD), "-DHALO_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (configure, ["cmake", "--build", str(BUILD), "--parallel", "2", "--target", program]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return BUILD / program
