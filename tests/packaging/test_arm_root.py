"""The package as a user of a Raspberry Pi installs it: in an arm64 Debian, emulated, with a hub and workers."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHECK = ROOT / "scripts" / "arm" / "check.sh"


def may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates a Raspberry Pi on x86-64")
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs Debian's packages")
@pytest.mark.skipif(not may_mount(), reason="needs root that may mount")
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("cpu, page", [("cortex-a72", "4096"), ("cortex-a76", "16384")])
def test_the_package_runs_on_an_emulated_raspberry_pi(cpu: str, page: str, tmp_path: Path) -> None:
    """A Pi 4; and a Pi 5, whose kernel has larger pages."""
    figures = tmp_path / "figures.json"
    command = ["bash", str(CHECK), "bookworm", cpu, "--page", page, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2300, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert all(line["good"] for line in json.loads(figures.read_text()))


def test_the_scripts_for_arm_say_how_they_are_used() -> None:
    for name, words in {"check.py": ["--help"], "wheels.sh": ["--help"]}.items():
        run = [sys.executable] if name.endswith(".py") else ["bash"]
        shown = subprocess.run(
            [*run, str(CHECK.parent / name), *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert "usage: " in shown.stdout + shown.stderr, name
