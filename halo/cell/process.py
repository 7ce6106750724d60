"""Child processes that the terminal's Ctrl-C does not reach and whose last words are kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence

from halo.files import nameless

_POLL_S = 0.01


class Child:
    """A process in a session of its own; its standard error goes to a nameless file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        pipe: bool = False,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. With `pipe` its standard input stays open for as long as this process lives.

        `env` is added to the environment.
        """
        self._errors = nameless()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            env={**os.environ, **(env or {})},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_words(self, lines: int = 5) -> str:
        """The end of what it wrote to standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4000))
        text = self._errors.read().decode("utf-8", "replace").strip()
        return "\n".join(text.splitlines()[-lines:])

    def terminate(self) -> None:
        """Ask it to end: SIGTERM, and then the end of its standard input, by which it might be gone before a signal."""
        self._process.terminate()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    async def gone(self, within_s: float) -> None:
        """Wait for it to end, and kill it when it has not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._process.poll() is None:  # noqa: ASYNC110 (needs no child watcher)
                    await asyncio.sleep(_POLL_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._errors.close()
