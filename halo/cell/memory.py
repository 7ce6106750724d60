"""Whether a part of a model fits into this device's memory, before any of it is loaded.

Every token reads every weight: what does not fit would be swapped in and out at each one, or end the process.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from halo.errors import CellError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
_OVERHEAD = 60 << 20
"""What a process takes beside weights and caches."""


def parse_size(text: str) -> int:
    """Bytes of `1500M`, `1.5G` or `2GiB`; ValueError for anything else, and for less than a megabyte."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?)B?", text.strip().upper())
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no amount of memory: give it as 1500M, 1.5G or 2GiB.")
    size = float(found[1]) * _UNITS[found[2]]
    if not 1 << 20 <= size <= 1 << 50:
        raise ValueError(f"{text!r} is no amount of memory that a model could use.")
    return int(size)


def total(root: Path = Path("/")) -> int:
    """Bytes of this device's memory, or what the control group leaves of it."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([limit, *(most for most, _ in _groups(root))])


def free(root: Path = Path("/")) -> int:
    """Bytes that can be used without swapping; `total` where the system does not tell."""
    available = total(root)
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) << 10
    return min([available, *(max(most - used, 0) for most, used in _groups(root))])


def _groups(root: Path) -> list[tuple[int, int]]:
    """(limit, use) of the control group that this process is in, as a container sees it."""
    folder = root / "sys/fs/cgroup"
    most, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
    return [(int(most), int(used))] if most.isdigit() and used.isdigit() else []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


class Budget:
    """What one device may use: what the user said, or what is free when something is to be loaded."""

    def __init__(self, wanted: int | None = None) -> None:
        self._wanted = wanted

    @property
    def total(self) -> int:
        """What the cell is told."""
        return total() if self._wanted is None else min(self._wanted, total())

    def check(self, weights: int, caches: int, held: int = 0) -> None:
        """Raise a CellError if that does not fit. `held` bytes of it are in memory already."""
        need = weights + caches + _OVERHEAD
        most = free() + held if self._wanted is None else self._wanted
        if need > most:
            limit = "are free" if self._wanted is None else "it may take (--memory)"
            raise CellError(
                f"it needs {_gb(need)} ({_gb(weights)} of weights, {_gb(caches)} of caches), more than the {_gb(most)} "
                f"that {limit}. Try workers that share the model (--residency shards at the hub), a shorter context "
                "(-c), or a smaller quantisation"
            )


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
