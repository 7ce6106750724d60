"""An asyncio loop in a thread of its own, so that the caller's thread and loop stay the caller's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def errors_in_one_line(loop: asyncio.AbstractEventLoop, log: Callable[[str], None]) -> None:
    """What a callback or a forgotten future fails with becomes one line of the log, instead of a traceback.

    The MQTT libraries do so when a connection ends at an unlucky moment; it is made again, whatever they say.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log(f"a connection failed in an unusual way: {error or context.get('message')}")

    loop.set_exception_handler(handle)


_waits: dict[int, Future[Any]] = {}
"""By thread: what it waits for, of what others may end."""


def end_wait_of(thread: int) -> None:
    """Cancel what the thread of this number waits for in `LoopThread.run(may_end=True)`; else nothing happens."""
    if (future := _waits.get(thread)) is not None:
        future.cancel()


class LoopThread:
    """Runs coroutines for other threads. The thread is a daemon: an atexit handler can still use it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None, *, may_end: bool = False) -> T:
        """Run a coroutine there and wait for its result; it is cancelled when the waiting ends otherwise.

        With `may_end`, `end_wait_of` this thread ends it with a CancelledError.
        """
        future = self.submit(work)
        if may_end:
            _waits[threading.get_ident()] = future
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise
        finally:
            if may_end:
                del _waits[threading.get_ident()]

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[[], T]) -> T:
        """Run a quick function there."""

        async def work() -> T:
            return function()

        return self.run(work())

    def close(self) -> None:
        """Cancel what still runs there and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(2)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left, timeout=1))
        finally:
            self._loop.close()
