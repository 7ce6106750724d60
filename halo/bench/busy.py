"""A Python thread that never waits: what an application does that computes beside the generation."""

from __future__ import annotations

import threading


class BusyThread:
    """Runs while it is switched on."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def switch(self, on: bool) -> None:
        """Start or end it."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        if on:
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, name="halo-busy", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        number = 0
        while not self._stop.is_set():
            number = (number * 1103515245 + 12345) % 2**31
