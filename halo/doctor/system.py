"""The operating system as the checks see it; tests bring a tree of files and programs of their own."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from halo.doctor.finding import Unreadable

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")  # Debian puts iw and ip where a user's PATH does not look
_PATIENCE_S = 2.0


def run_program(command: Sequence[str]) -> str:
    """Standard output of a program; Unreadable when it is missing, fails, or takes more than two seconds."""
    name = command[0]
    program = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))
    if program is None:
        raise Unreadable(f"the program {name!r} is not installed")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"'{' '.join(command)}' does not end") from None
    except OSError as error:
        raise Unreadable(f"{name!r} cannot be run: {error.strerror}") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise Unreadable(f"'{' '.join(command)}' fails: {words[-1]}")
    return done.stdout


def granted_buffer(option: int, wanted: int) -> int:
    """Bytes of a UDP socket's buffer (SO_RCVBUF or SO_SNDBUF) after asking for `wanted`, as the asker counts them.

    The kernel keeps twice what it grants, for its own bookkeeping, and reports that (socket(7)).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, option, wanted)
        return probe.getsockopt(socket.SOL_SOCKET, option) // 2


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock_is_synchronised() -> bool:
    """What the kernel was told by whoever keeps the clock: the bit STA_UNSYNC of adjtimex(2) is not set."""
    timex = _Timex()
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
            raise Unreadable("the kernel does not tell (adjtimex fails)")
    except (OSError, AttributeError):
        raise Unreadable("this system has no adjtimex") from None
    return not timex.status & 0x40


@dataclass(frozen=True)
class System:
    """Where the checks read. `root` stands for `/`."""

    root: Path = Path("/")
    run: Callable[[Sequence[str]], str] = run_program
    granted_buffer: Callable[[int, int], int] = granted_buffer
    clock_is_synchronised: Callable[[], bool] = clock_is_synchronised
    machine: str = platform.machine()

    def read(self, path: str) -> str:
        """The text of a file, named from the root without its slash; Unreadable with the reason."""
        try:
            return (self.root / path).read_text(errors="replace").strip("\0\n ")
        except OSError as error:
            raise Unreadable(f"/{path}: {error.strerror}") from None

    def try_read(self, path: str) -> str:
        """The same; nothing where it cannot be read."""
        try:
            return self.read(path)
        except Unreadable:
            return ""

    def number(self, path: str) -> int:
        """The whole number in a file; Unreadable with the reason."""
        text = self.read(path)
        try:
            return int(text)
        except ValueError:
            raise Unreadable(f"/{path} holds {text[:40]!r}, not a number") from None

    def find(self, pattern: str) -> list[str]:
        """The files that match, named as `read` names them, in order."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))


def sysctl(setting: str, value: str) -> tuple[str, str]:
    """Commands that change a kernel setting now, and for every start."""
    line = f"{setting}={value}"
    return f"sudo sysctl -w {line}", f"echo '{line}' | sudo tee -a /etc/sysctl.d/90-halo.conf"
