"""What all commands say on standard error, and how."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence

from halo.words import visible

_PATIENCE_S = 2.0
_WIDEST = 64
"""Of a table's cell: a device's name fits, and so do an IPv6 address and a cipher."""


def say(line: str) -> None:
    """A line for a person, on standard error: one, and without control characters, whatever the names in it are."""
    show(f"halo: {visible(line)}\n")


def show(text: str) -> None:
    """Text for a person, on standard error."""
    with contextlib.suppress(OSError, ValueError):  # nobody listens
        print(text, end="", file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error, as every command reports it."""
    say(f"error: {text}")


@contextlib.contextmanager
def patience(what: str) -> Iterator[None]:
    """Say what is being waited for, once it takes longer than two seconds and somebody watches."""
    if not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(_PATIENCE_S, say, (f"{what} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def size(n: int) -> str:
    """`4.2 GB`."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= bytes_each:
            return f"{n / bytes_each:.1f} {unit}"
    return f"{n} B"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows with their columns aligned; what is too wide, or not for a terminal, is made so."""
    rows = [[visible(cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 3]}...") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
