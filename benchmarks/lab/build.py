"""Finds what the laboratory needs of the machine, and compiles its switch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .conditions import LabError

_SOURCE = Path(__file__).with_name("switch.c")
_FLAGS = ("-O2", "-Wall", "-Wextra")
_PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux", "cc": "gcc libc6-dev"}
_TUN = Path("/dev/net/tun")


def find(program: str) -> str | None:
    """Its path; Debian puts some where a user's PATH does not look."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def why_not() -> str | None:
    """What keeps this machine from running a laboratory; None if nothing does."""
    if os.geteuid() != 0:
        return "The laboratory makes network namespaces, which needs root: put 'sudo' before the command."
    if missing := [program for program in _PROGRAMS if not find(program)]:
        packages = " ".join(sorted({_PROGRAMS[program] for program in missing}))
        return f"The laboratory needs {', '.join(missing)}: sudo apt install {packages}."
    if not _TUN.exists():
        return f"The laboratory needs {_TUN}: sudo modprobe tun (in a container: --device {_TUN})."
    return None


def switch() -> Path:
    """The compiled switch, from the cache where this very source has been compiled before."""
    source = _SOURCE.read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halo"
    target = cache / f"lab-switch-{hashlib.sha256(source).hexdigest()[:16]}"
    if target.is_file() and target.stat().st_uid == os.geteuid():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:  # several may compile at once: the last one stays
            made = Path(folder) / "switch"
            command = [find("cc") or "cc", *_FLAGS, "-o", str(made), str(_SOURCE), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabError(
                    f"The laboratory's switch cannot be compiled ({' '.join(command)}):\n{done.stderr.strip()}"
                )
            made.replace(target)
    except OSError as error:
        raise LabError(f"The laboratory's switch cannot be put into {cache}: {error.strerror}.") from None
    return target
