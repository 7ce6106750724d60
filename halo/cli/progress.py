"""How far something long is, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from halo.cli.console import say, show

_WIDTH = 30
_BAR_EVERY_S = 0.1
_LINE_EVERY_S = 10.0


class Progress:
    """Call it with a stage, how much is done, and of how much; a context manager that leaves the line finished."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._first = 0  # done when the stage was first heard of: of an earlier run
        self._begun = self._shown = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._stage:
            show("\n")

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self.__exit__()
            self._stage, self._first, self._begun, self._shown = stage, done, now, now
            self._show(stage, done, total, now)
        elif now >= self._shown + (_BAR_EVERY_S if self._terminal else _LINE_EVERY_S) or done >= total:
            self._show(stage, done, total, now)

    def _show(self, stage: str, done: int, total: int, now: float) -> None:
        self._shown = now
        left = ""
        if done > self._first and done < total:
            seconds = (now - self._begun) / (done - self._first) * (total - done)
            left = f", {int(seconds) // 60}:{int(seconds) % 60:02d} left"
        text = f"{stage}: {100 * done // max(total, 1):3d}%{left}"
        if not self._terminal:
            say(text)
            return
        full = _WIDTH * done // max(total, 1)
        show(f"\r[{'#' * full}{'.' * (_WIDTH - full)}] {text}\033[K")
