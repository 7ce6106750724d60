"""Damaged model files and sidecars, opened and computed with, under sanitizers and in little memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.test_sanitized import ROOT, built

pytestmark = pytest.mark.timeout(900)
_SPARE_MIB = 128  # of address space; the largest of the files has 0.4 MB


def survived(folder: Path, *options: str, **environment: str) -> None:
    """All of it is opened: most is refused, some of it harmless, a little computes what is not finite."""
    command = [sys.executable, "-m", "tests.model.damage", str(folder), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    what = (folder / "what").read_text() if (folder / "what").exists() else "nothing"
    assert done.returncode == 0, f"{what}: {done.stderr[-4000:]}"
    counts = json.loads(done.stdout)
    assert sum(counts.values()) > 2500
    assert all(counts[what] >= 10 for what in ("refused", "computed", "sidecars refused", "sidecars computed")), counts


def test_damaged_files_take_little_memory(tmp_path: Path) -> None:
    survived(tmp_path, "--spare", str(_SPARE_MIB))


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake and a compiler")
def test_damaged_files_stay_within_memory(tmp_path: Path) -> None:
    pybind11 = pytest.importorskip("pybind11")
    options = [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}"]
    build = built("sanitized", "HALO_SANITIZE", "-DHALO_SANITIZE_MODULE=ON", *options, targets=["_native"]).parent
    (module,) = build.glob("_native.*.so")

    def library(name: str) -> str:
        return subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()

    survived(
        tmp_path,
        "--native",
        str(module),
        "--in-memory",
        # Python itself is not built with the sanitizers, so that they must be there before it.
        LD_PRELOAD=f"{library('libasan.so')} {library('libstdc++.so')}",
        ASAN_OPTIONS="detect_leaks=0:max_allocation_size_mb=64:quarantine_size_mb=16",
        PYTHONMALLOC="malloc",
    )
