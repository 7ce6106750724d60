"""Whether a part of a model fits into this device's memory, before any of it is loaded.

Every token reads every weight: what does not fit would be swapped in and out at each one, or end the process.
"""

from __future__ import annotations

import re

from halo.errors import CellError
from halo.memory import free, total
from halo.words import gigabytes

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
_OVERHEAD = 60 * 10**6
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


class Budget:
    """What one device may use: what the user said, or what is free when something is to be loaded."""

    def __init__(self, wanted: int | None = None) -> None:
        if wanted is not None and wanted <= _OVERHEAD:
            raise ValueError(
                f"--memory {gigabytes(wanted)} is less than a worker takes without a model ({gigabytes(_OVERHEAD)})."
            )
        self._wanted = wanted

    @property
    def total(self) -> int:
        """What the cell is told."""
        return total() if self._wanted is None else min(self._wanted, total())

    def check(self, weights: int, caches: int, held: int = 0) -> str:
        """Raise a CellError if these weights do not fit; `held` bytes of them are in memory already.

        Caches take memory as they are filled, which few texts do: returned is what to say if all of it would not fit,
        or nothing.
        """
        most = free() + held if self._wanted is None else self._wanted
        limit = f"the {gigabytes(most)} that " + ("are free" if self._wanted is None else "it may take (--memory)")
        need = weights + _OVERHEAD
        if need > most:
            raise CellError(
                f"it needs {gigabytes(need)} for weights, more than {limit}. Try more workers that share the model "
                "(--residency shards at the hub), or a smaller quantisation"
            )
        if need + caches > most:
            more, in_all = gigabytes(caches), gigabytes(need + caches)
            return f"a full context would take {more} more, and then {in_all} be more than {limit} (-c)"
        return ""
