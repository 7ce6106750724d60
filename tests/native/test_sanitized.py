"""The native code under AddressSanitizer and UBSan: buffers of exactly their size, every variant, whole models, hostile
messages; and under ThreadSanitizer: a cell in which everything has a thread of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from halo import _native

ROOT = Path(__file__).resolve().parents[2]
_FUZZ_RUNS = 40_000  # some 5 s

pytestmark = [
    pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake and a compiler"),
    pytest.mark.timeout(900),
]


def built(program: str, option: str, *more: str, targets: Sequence[str] = ()) -> Path:
    """The program; its build is kept between runs, so that only what changed is compiled again.

    `targets`: what is built there, by default the program.
    """
    build = ROOT / "build" / program
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), f"-D{option}=ON", "-DCMAKE_BUILD_TYPE=Release", *more]
    build_it = ["cmake", "--build", str(build), "--parallel", "2", "--target", *(targets or [program])]
    for command in (configure, build_it):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return build / program


@pytest.fixture(scope="module")
def sanitized() -> Path:
    return built("sanitized", "HALO_SANITIZE", targets=["sanitized", "fuzz"])


def run(*command: Path | str, isa: str = "") -> None:
    environment = {**os.environ, "HALO_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stderr[-4000:]


def test_nothing_reads_or_writes_beyond_its_buffers(sanitized: Path) -> None:
    run(sanitized)


@pytest.mark.parametrize("isa", _native.variants()[1:])  # the first one is what `sanitized` itself takes
def test_whole_models_and_hostile_messages_stay_within_memory(sanitized: Path, isa: str) -> None:
    run(sanitized, "models", isa=isa)


def test_threads_of_a_cell_touch_nothing_at_the_same_time() -> None:
    """ThreadSanitizer's exit code tells what it found. `threads N` goes on for longer."""
    run(built("threads", "HALO_SANITIZE_THREADS"))


def test_no_datagram_packet_or_message_does_harm(sanitized: Path, tmp_path: Path) -> None:
    """native/tests/fuzz_driver.cpp says how to go on for longer than this."""
    kept = tmp_path / "input"
    try:
        run(sanitized.with_name("fuzz"), str(_FUZZ_RUNS), kept)
    except AssertionError as error:
        error.add_note(f"the input was {kept.read_bytes().hex() if kept.exists() else 'none'}")
        raise
