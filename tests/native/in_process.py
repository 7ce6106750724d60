"""A cell inside one process: workers called directly, over a network that can be told to misbehave."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.model import Model

Floats = NDArray[np.float32]
Fate = Callable[[bytes], list[bytes]]  # what becomes of a message: lost, itself, or several


def arrives(message: bytes) -> list[bytes]:
    return [message]


def lossy(seed: int, loss: float = 0.2, double: float = 0.2) -> Fate:
    """Loses some messages and doubles others."""
    drawn = random.Random(seed)

    def fate(message: bytes) -> list[bytes]:
        if drawn.random() < loss:
            return []
        return [message] * (2 if drawn.random() < double else 1)

    return fate


class LocalCell:
    """An engine with `workers` workers of the same model in this process."""

    def __init__(
        self,
        model: Model,
        workers: int,
        *,
        n_ctx: int = 256,
        threads: int = 1,
        partials: str = "fixed",
        fate: Fate = arrives,
        max_message: int = 65536,
        re_request_s: float | None = 0.5,
        patience_s: float = 4.0,
        stand_ins: bool = True,
        load: bool = True,
    ) -> None:
        if load:
            model.native.load()
        self.session = 0x1234_5678_9ABC_DEF0
        self.fate = fate
        self.workers = [_native.Worker(model.native) for _ in range(workers)]
        for worker in self.workers:
            worker.open(self.session, n_ctx, 1)
        self.relay = _native.Relay(
            self.session,
            lambda messages: self._post(messages),
            max_message=max_message,
            re_request_s=re_request_s,
            patience_s=patience_s,
            stand_ins=stand_ins,
        )
        self.engine = _native.Engine(model.native, n_ctx, threads=threads, partials=partials)
        self.engine.set_plan("even")
        self.engine.attach(self.relay)
        for _ in self.workers:
            self.relay.join(None)

    def _post(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        for index, _, message in messages:
            for copy in self.fate(message):
                answer = self.answer(index, copy)
                for returned in self.fate(answer) if answer else []:
                    self.relay.deliver(index, returned)

    def answer(self, index: int, message: bytes) -> bytes:
        verdict, answer = self.workers[index].accept(message)
        return self.workers[index].compute(message) if verdict == "compute" else answer


def run(engine: _native.Engine, tokens: NDArray[np.int32], cuts: Sequence[int] = ()) -> Floats:
    """Logits of all positions, the tokens given in batches that end at `cuts`."""
    ends = [*sorted(c for c in set(cuts) if 0 < c < len(tokens)), len(tokens)]
    out, start = [], 0
    for end in ends:
        out.append(engine.forward(0, tokens[start:end], True))
        start = end
    return np.concatenate(out)


def alone(model: Model, tokens: NDArray[np.int32], partials: str = "fixed") -> Floats:
    """The same from one device, in one call."""
    return _native.Engine(model.native, 256, partials=partials).forward(0, tokens, True)
