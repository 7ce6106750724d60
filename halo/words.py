"""How lines for people put things."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

_MANY = 6
_SHOWN = 60
_UNSEEN = ("Cc", "Cf", "Zl", "Zp")
"""Categories of Unicode that move the cursor, end lines or turn the direction of writing."""


def shortened(items: Sequence[str], most: int = _MANY) -> str:
    """`a, b, c`; of more than `most` the first ones, `and 3 more`."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def gigabytes(size: int) -> str:
    """`1.50 GB`, of bytes."""
    return f"{size / 1e9:.2f} GB"


def visible(text: str) -> str:
    """`text` for a terminal: control characters, such as begin an escape sequence, become '?'."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("?" if unicodedata.category(c) in _UNSEEN else c for c in text)


def clean(text: str, limit: int = 1000) -> str:
    """`text` as documents may carry it: control characters and lone surrogates become '?', cut at `limit`."""
    return visible(text[:limit].encode("utf-8", "replace").decode("utf-8"))


def shown(value: Any) -> str:
    """A value from a file, of any length, as a message quotes it."""
    if isinstance(value, list):
        text = f"[{', '.join(shown(v) for v in value[:_MANY])}{', ...' if len(value) > _MANY else ''}]"
    else:
        text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)  # what is cut is not even made
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
