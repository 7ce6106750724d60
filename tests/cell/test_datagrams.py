"""A hub whose user wants datagrams only, and workers that they do not reach."""

from __future__ import annotations

from types import SimpleNamespace

import fake_native
import numpy as np
import pytest
from cell_helpers import eventually

from halo.cell import session as session_module
from halo.errors import CellError, WorkerLostError

TOKENS = np.array([1, 2], dtype=np.int32)


class Relay(fake_native.Relay):
    """One that takes offers."""

    def open_datagrams(self, own, session, offers, only):
        pass


SEALING = SimpleNamespace(
    **{
        **vars(fake_native.NATIVE),
        "Relay": Relay,
        "sealing_unavailable": lambda: None,
        "KeyPair": lambda: SimpleNamespace(public=bytes(32)),
        "ciphers": lambda: ["chacha20-poly1305"],
    }
)


@pytest.fixture
def down(monkeypatch):
    """The workers that datagrams do not reach."""
    names = set()

    def unreached(workers, *_):
        return {name: "its interface is down" for name in workers if name in names}

    monkeypatch.setattr(session_module, "unreached", unreached)
    return names


@pytest.fixture
def hub(broker, start_worker, open_cell):
    """Opens a hub that wants datagrams to three workers; they are in `.started`."""

    def open_():
        started = {name: start_worker(name) for name in ("a", "b", "c")}
        cell = open_cell(broker=str(broker.address), workers=3, transport="udp", native=SEALING)
        cell.started = started
        return cell

    return open_


def test_a_worker_that_datagrams_cannot_reach_is_an_error_at_the_start(hub, down):
    down.add("b")
    with pytest.raises(CellError, match=r"b: its interface is down.*Or use auto"):
        hub()


def test_a_worker_that_datagrams_reach_no_more_is_left_out_and_the_others_go_on(hub, down, lines):
    cell = hub()
    cell.engine.forward(0, TOKENS)
    down.add("b")
    cell.started["a"].kill()
    eventually(lambda: any("worker a is lost" in line for line in lines))
    with pytest.raises(WorkerLostError):
        cell.engine.forward(0, TOKENS)
    assert cell.engine.n_past(0) == 0
    cell.engine.forward(0, TOKENS)
    assert cell.report()["workers"] == 1
    assert any("doing without" in line and "b: its interface is down" in line for line in lines)
    assert lines[-1].endswith("computing with the hub and 1 worker (c)")
