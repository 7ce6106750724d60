"""How lines for people put things."""

from __future__ import annotations

from collections.abc import Sequence

_MANY = 6


def shortened(items: Sequence[str]) -> str:
    """`a, b, c`; of more than six the first six, `and 3 more`."""
    more = f" and {len(items) - _MANY} more" if len(items) > _MANY else ""
    return ", ".join(items[:_MANY]) + more
