"""Network namespaces of another process: being in one, and running the tools that set it up."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .build import find
from .conditions import LabError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """This thread is there meanwhile, with the threads and processes that it starts."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _set(home)
    finally:
        os.close(home)


def _enter(namespace: Path) -> None:
    try:
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"The laboratory's network is gone ({namespace}: {error.strerror}).") from None
    try:
        _set(fd)
    finally:
        os.close(fd)


def _set(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise LabError(f"A network namespace cannot be entered: {os.strerror(ctypes.get_errno())}.")


def tool(program: str, *arguments: str, lines: Sequence[str] = ()) -> str:
    """What `ip` or `tc` prints; with `lines`, a batch of commands."""
    command = [find(program) or program, *arguments, *(["-batch", "-"] if lines else [])]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
