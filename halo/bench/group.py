"""What one MLP group costs a worker, against its share of the whole layer: the price of cutting a layer up."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from halo import _native
from halo.model import Model

_SESSION = 1
_PART, _MASK = 36, 40  # offsets in a request's header, see docs/protocol.md
_MLP = 1


class GroupFigure(TypedDict):
    """One row; medians. `ratio`: time of one group x groups / time of the layer; 1 would be a group for free."""

    groups: int
    neurons: int
    group_us: float
    layer_us: float
    ratio: float


def _mlp_requests(model: Model, worker: _native.Worker) -> list[bytes]:
    """The MLP requests of one token, one a layer."""
    taken: list[bytes] = []

    def post(messages: Sequence[tuple[int, int, bytes]]) -> None:
        for _, _, message in messages:
            taken.append(message)
            verdict, answer = worker.accept(message)
            relay.deliver(0, worker.compute(message) if verdict == "compute" else answer)

    relay = _native.Relay(_SESSION, post, stand_ins=False)
    engine = _native.Engine(model.native, 16)
    engine.set_plan("even")
    engine.attach(relay)
    relay.join(None)
    engine.forward(0, np.array([5], np.int32))
    return [message for message in taken if message[_PART] == _MLP]


def _asking(message: bytes, mask: int) -> bytes:
    return message[:_MASK] + struct.pack("<Q", mask) + message[_MASK + 8 :]


def _seconds(worker: _native.Worker, requests: Sequence[bytes]) -> float:
    start = time.thread_time()
    for request in requests:
        worker.compute(request)
    return (time.thread_time() - start) / len(requests)


def bench_group(model: Model, rounds: int) -> GroupFigure:
    """A worker with one thread answers, layer by layer: all groups, then one of them; its own CPU time counts."""
    worker = _native.Worker(model.native, 1)
    worker.open(_SESSION, 16, 1)
    requests = _mlp_requests(model, worker)
    groups = len(model.grid.mlp[0]) - 1
    layer, group = [], []
    for turn in range(8 * rounds):
        layer.append(_seconds(worker, [_asking(r, (1 << groups) - 1) for r in requests]))
        group.append(_seconds(worker, [_asking(r, 1 << (7 * turn + i) % groups) for i, r in enumerate(requests)]))
    whole, one = statistics.median(layer), statistics.median(group)
    return GroupFigure(
        groups=groups,
        neurons=model.spec.ff // groups,
        group_us=round(1e6 * one, 1),
        layer_us=round(1e6 * whole, 1),
        ratio=round(one * groups / whole, 3),
    )
