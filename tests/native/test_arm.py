"""The kernels for ARM, cross-built and run by an emulator that claims to be the processor of a Raspberry Pi 4 or 5.

The emulator stops a program at an instruction that its processor does not have, and reports what it has as Linux does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
_NEEDED = ["cmake", COMPILER, EMULATOR]
_MISSING = [program for program in _NEEDED if shutil.which(program) is None]

pytestmark = [
    pytest.mark.skipif(bool(_MISSING), reason=f"needs {', '.join(_MISSING)} (scripts/test.sh installs them)"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the cross-built program `variants` and the native module's code; kept between runs."""
    build = ROOT / "build" / "arm"
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={COMPILER}"]
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-DHALO_VARIANTS=ON", *target]
    configure.append("-DCMAKE_EXE_LINKER_FLAGS=-static")  # no ARM system is needed to run it
    for command in (configure, ["cmake", "--build", str(build), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return build


def emulated(processor: str, program: Path, isa: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HALO_ISA": isa}
    command = [EMULATOR, "-cpu", processor, str(program)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("processor", "variants"), [("cortex-a72", "neon portable"), ("cortex-a76", "dotprod neon portable")]
)
def test_each_processor_gets_the_variants_it_can_run_and_they_are_right(
    built: Path, processor: str, variants: str
) -> None:
    done = emulated(processor, built / "variants")
    assert (done.returncode, done.stdout) == (0, f"{variants}\nok\n"), done.stdout + done.stderr


def test_a_variant_that_the_processor_lacks_is_an_error_and_no_crash(built: Path) -> None:
    done = emulated("cortex-a72", built / "variants", isa="dotprod")
    assert done.returncode == 2 and "HALO_ISA=dotprod" in done.stdout and "neon, portable" in done.stdout


def test_only_the_dotprod_kernels_have_what_a_raspberry_pi_4_lacks(built: Path) -> None:
    """Nor can the linker take code for others from there."""
    scan = [sys.executable, str(ROOT / "scripts" / "arm" / "baseline.py"), str(built / "libhalo_core.a")]
    done = subprocess.run([*scan, "--allow", "dotprod.cpp.o"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    blind = subprocess.run(scan, capture_output=True, text=True, timeout=120, check=False)
    assert blind.returncode == 1 and "sdot" in blind.stdout, "the scan does not see what it looks for"
