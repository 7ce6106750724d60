"""A cell inside one process whose messages are datagrams of real sockets; direct calls stand in for MQTT."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from halo import _native
from halo.model import Model

SESSION = 0x0FED_CBA9_8765_4321
CIPHER = "chacha20-poly1305"
Places = Callable[[int], AbstractContextManager[None]]
Addresses = Callable[[int, int], list[tuple[str, int]]]
"""A worker's number, from 1, and its port -> where the hub may find it."""


def nowhere(number: int) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def on_loopback(number: int, port: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", port)]


class DatagramCell:
    """An engine with `workers` workers. `place(i)` is where device i is, 0 being the hub.

    Answers are waited for, however late, unless `stand_ins`: what is tested here is that they come.
    """

    def __init__(
        self,
        model: Model,
        workers: int,
        *,
        partials: str = "fixed",
        n_ctx: int = 256,
        place: Places = nowhere,
        addresses: Addresses = on_loopback,
        only: bool = False,
        stand_ins: bool = False,
    ) -> None:
        self.posted = 0
        """Messages that went the other way."""
        self.carries_mqtt = not only
        self._keys = _native.KeyPair()
        self.workers = [_native.Worker(model.native) for _ in range(workers)]
        self.ends: list[_native.DatagramWorker] = []
        self.relay = _native.Relay(SESSION, self._post, stand_ins=stand_ins)
        with place(0):
            self.relay.open_datagrams(self._keys, only)
        self.engine = _native.Engine(model.native, n_ctx, partials=partials)
        self.engine.set_plan("even")
        self.engine.attach(self.relay)
        for number, worker in enumerate(self.workers, 1):
            worker.open(SESSION, n_ctx, 1)
            keys = _native.KeyPair()
            with place(number):
                end = _native.DatagramWorker(worker)
            end.serve(keys, self._keys.public, SESSION, str(number), CIPHER)
            self.relay.join((keys.public, str(number), CIPHER, addresses(number, end.port)))
            self.ends.append(end)

    def link(self, worker: int) -> dict[str, Any]:
        """The link of a worker that has joined."""
        link = self.relay.links()[worker]
        assert link is not None
        return link

    def links_stand(self, within_s: float = 30.0) -> bool:
        """Whether datagrams reach every worker, within that time."""
        return eventually(lambda: all(link is not None and link["alive"] for link in self.relay.links()), within_s)

    def _post(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        self.posted += len(messages)
        for index, _, message in messages if self.carries_mqtt else []:
            verdict, answer = self.workers[index].accept(message)
            answer = self.workers[index].compute(message) if verdict == "compute" else answer
            if answer:
                self.relay.deliver(index, answer)


def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
