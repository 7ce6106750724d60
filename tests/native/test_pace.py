"""Devices that take their time, for measurements. At least so long: how much longer is the machine's affair."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone

TOKENS = np.arange(10, 30, dtype=np.int32)


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q4_0"))


class Timed:
    """A hub and a worker, and how long the worker had each request: (its groups, seconds)."""

    def __init__(self, model: Model) -> None:
        self.cell = LocalCell(model, 1)
        self.taken: list[tuple[int, float]] = []
        self._answer = self.cell.answer
        self.cell.answer = self._timed  # type: ignore[method-assign]

    def _timed(self, index: int, message: bytes) -> bytes:
        start = time.monotonic()
        reply = self._answer(index, message)
        self.taken.append((int.from_bytes(message[40:48], "little").bit_count(), time.monotonic() - start))
        return reply


@pytest.mark.parametrize("rows", [1, 5])
def test_a_worker_takes_its_time_for_each_request_whatever_its_rows(model: Model, rows: int) -> None:
    timed = Timed(model)
    timed.cell.workers[0].set_pace(20_000)
    assert np.array_equal(timed.cell.engine.forward(0, TOKENS[:rows], True), alone(model, TOKENS[:rows]))
    assert len(timed.taken) == 2 * model.spec.n_layers
    assert all(taken >= 0.0199 for _, taken in timed.taken)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_worker_takes_its_time_for_each_group_that_it_is_asked_for(model: Model, share: float) -> None:
    timed = Timed(model)
    timed.cell.engine.assign_evenly(share)
    timed.cell.workers[0].set_pace(0, 5_000)
    assert np.array_equal(timed.cell.engine.forward(0, TOKENS[:5], True), alone(model, TOKENS[:5]))
    assert any(groups for groups, _ in timed.taken) or share == 1
    assert all(taken >= 0.00499 * groups for groups, taken in timed.taken)


def test_the_hub_takes_its_time_for_its_own_groups(model: Model) -> None:
    engine = LocalCell(model, 0).engine
    engine.pace(0, 2_000)
    start = time.monotonic()
    assert np.array_equal(engine.forward(0, TOKENS, True), alone(model, TOKENS))
    groups = sum(len(layer) - 1 for part in (model.grid.attention, model.grid.mlp) for layer in part)
    assert time.monotonic() - start >= 0.00199 * groups


def test_a_worker_may_be_slowed_while_it_computes(model: Model) -> None:
    """What it is computing is not made longer; the next request is."""
    timed = Timed(model)
    worker = timed.cell.workers[0]
    worker.set_pace(50_000)
    thread = threading.Thread(target=lambda: timed.cell.engine.forward(0, TOKENS[:1]))
    thread.start()
    worker.set_pace(30_000, 0)
    thread.join()
    worker.set_pace(0, 0)
    timed.cell.engine.forward(0, TOKENS[1:2])
    assert all(taken >= 0.0299 for _, taken in timed.taken[: 2 * model.spec.n_layers])


@pytest.mark.parametrize("pace", [(-1, 0), (0, -1)])
def test_a_pace_below_0_is_refused(model: Model, pace: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="pace"):
        _native.Worker(model.native).set_pace(*pace)
    with pytest.raises(ValueError, match="pace"):
        _native.Engine(model.native, 8).pace(*pace)
