"""The real engine over real workers that die, freeze, come back and come anew: not a bit of the logits changes."""

from __future__ import annotations

import os
import signal
import sys
import threading

import numpy as np
import pytest
from cell_helpers import HANG_S, eventually, restart

from halo import _native
from halo.cell import Cell
from halo.model import open_model

TOKENS = 40
"""Of one text; it is begun again and again."""
_PAUSE_S = 0.005
"""Between tokens: a hub alone, with a model this small, would otherwise be faster than anyone can follow."""


@pytest.fixture(params=["auto", "mqtt"])
def transport(request):
    if request.param == "auto" and _native.sealing_unavailable() is not None:
        pytest.skip("nothing can be sealed here")
    return request.param


@pytest.fixture
def path(tiny_model):
    return tiny_model("Q8_0")


@pytest.fixture
def start(launch, path):
    """Starts real workers, each of whose rows takes a millisecond."""
    command = [sys.executable, "-m", "halo.cli", "worker"]

    def start_(name, address=None):
        return launch(command, name, "--pace", "1000", model=path, url=address)

    return start_


class Text:
    """Computes one text again and again, and compares each position with what a hub alone computes."""

    def __init__(self, cell, path):
        self.cell = cell
        self.error = None
        self.tokens = 0
        self._tokens = np.arange(3, 3 + TOKENS, dtype=np.int32)
        self._alone = _native.Engine(open_model(path).native, 256).forward(0, self._tokens, True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._compute, daemon=True)
        self._thread.start()

    def _compute(self):
        engine = self.cell.engine
        try:
            while not self._stop.wait(_PAUSE_S):
                at = self.tokens % TOKENS
                if at == 0:
                    engine.truncate(0, 0)
                logits = engine.forward(0, self._tokens[at : at + 1], True)
                assert np.array_equal(logits[0], self._alone[at])
                self.tokens += 1
        except BaseException as error:
            self.error = error

    def goes_on(self):
        now = self.tokens
        eventually(lambda: self.error or self.tokens > now + 1)
        assert self.error is None, self.error

    def uses(self, name):
        """Wait until this worker computes something, from now on."""

        def results():
            return next((d["group_results"] for d in self.cell.report()["devices"] if d["name"] == name), 0)

        before = results()
        try:
            eventually(lambda: self.error or results() > before)
        except AssertionError:
            raise AssertionError(f"{name} is not used: {self.cell.report()['devices']}") from self.error
        assert self.error is None, self.error

    def end(self):
        self._stop.set()
        self._thread.join(HANG_S)
        assert self.error is None, self.error


@pytest.fixture
def begin(broker, path, start, lines, transport):
    """Opens a hub that computes nothing itself where it need not, with the workers a and b, and begins."""
    ended = []

    def begin_(way_of_a=None, way_of_hub=None):
        workers = {"a": start("a", way_of_a), "b": start("b")}
        options = {"plan": "even", "hub_share": 0.0, "n_ctx": 256, "log": lines.append, "transport": transport}
        cell = Cell.open(open_model(path), broker=str(way_of_hub or broker.address), workers=2, **options)
        text = Text(cell, path)
        ended.extend((text.end, cell.close))
        text.workers = workers
        text.uses("a")
        text.uses("b")
        return text

    yield begin_
    for end in ended:
        end()


def heard(lines, text):
    eventually(lambda: any(text in line for line in lines))


def test_a_killed_worker_and_its_successor(begin, start, lines):
    text = begin()
    text.workers["a"].kill()
    heard(
        lines, "worker a has left (its connection to the broker has ended): the others and the hub compute its groups"
    )
    text.goes_on()
    start("a")
    heard(lines, "worker a has joined")
    text.uses("a")


def test_a_frozen_worker_that_wakes_up(begin, lines):
    text = begin()
    text.workers["a"].send_signal(signal.SIGSTOP)
    heard(lines, "worker a does not answer")
    text.goes_on()
    text.workers["a"].send_signal(signal.SIGCONT)
    heard(lines, "worker a is back after")
    text.uses("a")


def test_a_worker_frozen_for_longer_than_the_broker_waits(begin, lines):
    text = begin()
    text.workers["a"].send_signal(signal.SIGSTOP)
    eventually(lambda: text.cell.report()["workers"] == 1)  # its will
    text.goes_on()
    text.workers["a"].send_signal(signal.SIGCONT)
    heard(lines, "worker a is back after")
    text.uses("a")
    assert sum("worker a" in line for line in lines) == 2
    assert text.workers["a"].log.read_text().count("serving session") == 1


def test_all_workers_killed_at_once(begin, lines):
    text = begin()
    for worker in text.workers.values():
        worker.kill()
    heard(lines, "the hub computes its groups")
    text.goes_on()
    eventually(lambda: text.cell.report()["workers"] == 0)
    text.goes_on()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_broker_that_goes_and_comes_back(begin, broker, loop, lines, transport, number):
    text = begin()
    before = len(lines)
    os.kill(broker.child.pid, number)
    heard(lines, "lost the broker")
    text.goes_on()
    if transport == "auto":
        text.uses("a")
        text.uses("b")
    if number == signal.SIGKILL:
        restart(loop, broker)
    else:
        os.kill(broker.child.pid, signal.SIGCONT)
    heard(lines, "connected to the broker at")
    text.uses("a")
    text.uses("b")
    assert text.cell.report()["workers"] == 2
    told = [line for line in lines[before:] if "worker" in line]
    assert transport == "mqtt" or not told  # over datagrams nobody has noticed
    assert not any("left" in line or "joined" in line for line in told)


def test_a_worker_that_joins_in_the_middle(broker, path, start, lines, transport):
    options = {"plan": "even", "n_ctx": 256, "log": lines.append, "transport": transport}
    with Cell.open(open_model(path), broker=str(broker.address), **options) as cell:
        text = Text(cell, path)
        text.goes_on()
        start("late")
        heard(lines, "worker late has joined: it takes part from the next token on")
        text.uses("late")
        text.end()
        assert cell.report()["devices"][1]["filled_rows"] > 0


@pytest.mark.parametrize("transport", ["auto"], indirect=True)
def test_a_worker_that_is_cut_off_from_the_broker_only(begin, proxy, lines):
    """Its will has it leave; its datagrams have it back."""
    text = begin(way_of_a=proxy.address)
    proxy.stall(lambda client: True)
    heard(lines, "worker a has left (its connection to the broker has ended)")
    heard(lines, "worker a is back after")
    text.uses("a")
    proxy.stall(lambda client: False)
    eventually(lambda: "again" in text.workers["a"].log.read_text())
    text.uses("a")
    assert sum("worker a" in line for line in lines) == 2
    assert text.workers["a"].log.read_text().count("serving session") == 1


@pytest.mark.parametrize("transport", ["auto"], indirect=True)
def test_a_hub_that_is_cut_off_from_the_broker_only(begin, proxy, lines, view):
    """Its will clears the lease; its datagrams tell the workers that it lives."""
    text = begin(way_of_hub=proxy.address)
    proxy.stall(lambda client: True)
    eventually(lambda: view().lease is None)
    heard(lines, "lost the broker")
    for name in ("a", "b", "a", "b"):
        text.uses(name)
    proxy.stall(lambda client: False)
    heard(lines, "connected to the broker at")
    eventually(lambda: view().lease is not None)
    text.uses("a")
    assert not any("worker" in line for line in lines[1:])
    for worker in text.workers.values():
        assert worker.log.read_text().count("serving session") == 1
