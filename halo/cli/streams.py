"""Standard input, output and error as a command finds them: closed ones, and ones that cannot show every character."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, cast


def prepare() -> None:
    """Open what is missing, and let what cannot be shown become a `?`.

    Python has None for a stream that was closed (as in `halo ... >&-`): it would print errors to the output then, and
    the next file or socket would get the stream's number. Here nothing is read from it, a closed standard error is
    silent, and writing to a closed standard output is the error that it is. But who has closed both, as a daemon does,
    wants to hear nothing of either.
    """
    if sys.stdin is None:
        sys.stdin = _null(os.O_RDONLY, "r")
    if sys.stdout is None:
        sys.stdout = _null(os.O_RDONLY if sys.stderr is not None else os.O_WRONLY, "w")
    if sys.stderr is None:
        sys.stderr = _null(os.O_WRONLY, "w")
    output = sys.stdout
    if isinstance(output, io.TextIOWrapper) and output.errors == "strict":
        # A file name may have bytes that are no text; where the output is UTF-8 they are written as they are.
        output.reconfigure(errors="surrogateescape" if output.encoding.lower() == "utf-8" else "replace")


def _null(flags: int, mode: str) -> TextIO:
    return cast(TextIO, os.fdopen(os.open(os.devnull, flags), mode))
