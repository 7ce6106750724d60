"""How much memory this device has, and how much of it is free, as the system and the process's control groups tell."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/")


def meminfo(root: Path = ROOT) -> dict[str, int]:
    """/proc/meminfo below `root`: bytes by name; empty where it cannot be read."""
    found = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) << 10
    return found


def total(root: Path = ROOT) -> int:
    """Bytes of this device's memory, or what the process's control groups leave of it."""
    limit = meminfo(root).get("MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([limit, *(most for most, _ in _groups(root))])


def free(root: Path = ROOT) -> int:
    """Bytes that can be used without swapping; `total` where the system does not tell."""
    available = meminfo(root).get("MemAvailable")
    left = [max(most - used, 0) for most, used in _groups(root)]
    return min([total(root) if available is None else available, *left])


def _groups(root: Path) -> list[tuple[int, int]]:
    """(limit, use without what can be given up) of the control groups (v2) that limit this process."""
    path = next((line[3:] for line in _read(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    top = root / "sys/fs/cgroup"
    folder = top / path.strip().lstrip("/")
    found = []
    while folder.is_relative_to(top) and ".." not in folder.parts:
        most, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
        if most.isdigit() and used.isdigit():
            lines = [line.split() for line in _read(folder / "memory.stat").splitlines()]
            files = sum(int(line[1]) for line in lines if line[0] in ("active_file", "inactive_file"))
            found.append((int(most), max(int(used) - files, 0)))
        folder = folder.parent
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
