"""Workers that die, freeze, are cut off, come back and come anew while the hub generates; and the broker's absence."""

from __future__ import annotations

import os
import re
import signal
import threading

import numpy as np
import pytest
from cell_helpers import HANG_S, eventually, read_retained, restart, retain

from halo.cell import messages

PROFILE_A = "halo/halo/device/a/profile"


class Text:
    """Keeps generating in a thread of its own, as a user's program would; any error ends it and is kept."""

    def __init__(self, cell, pause_s=0.01):
        self.error = None
        self.tokens = 0
        self._cell = cell
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._generate, daemon=True)
        self._thread.start()

    def _generate(self):
        engine = self._cell.engine
        try:
            while not self._stop.wait(self._pause_s):
                engine.forward(0, np.zeros(1, np.int32))
                self.tokens += 1
                assert engine.n_past(0) == self.tokens
        except BaseException as error:
            self.error = error

    def goes_on(self):
        """Wait for another token."""
        now = self.tokens
        eventually(lambda: self.error or self.tokens > now + 1)
        assert self.error is None

    def end(self):
        self._stop.set()
        self._thread.join(HANG_S)
        assert self.error is None


@pytest.fixture
def generate():
    begun = []

    def begin(cell):
        begun.append(Text(cell))
        begun[-1].goes_on()
        return begun[-1]

    yield begin
    for text in begun:
        text.end()


def said(lines, text):
    """How many lines have it."""
    return sum(text in line for line in lines)


def heard(lines, text):
    eventually(lambda: said(lines, text))


def silent(lines):
    """Who does not answer, by what has been said last."""
    names = set()
    for line in lines:
        if found := re.match(r"workers? (.*) (?:do|does) not answer: ", line):
            names |= set(found[1].split(", "))
        elif found := re.match(r"workers? (.*) (?:is|are) back after ", line):
            names -= set(found[1].split(", "))
    return names


def answering(cell, name):
    """Whether its partials arrive just now."""

    def results():
        return next((d["group_results"] for d in cell.report()["devices"] if d["name"] == name), 0)

    before = results()
    return lambda: results() > before


@pytest.fixture
def pair(open_cell, start_worker, broker):
    """A hub and the workers a and b."""
    workers = {name: start_worker(name) for name in ("a", "b")}
    cell = open_cell(broker=str(broker.address), workers=2)
    cell.workers = workers
    return cell


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"], indirect=True)
def test_a_killed_worker_is_done_without_at_once(pair, generate, lines):
    text = generate(pair)
    pair.workers["a"].kill()
    heard(
        lines, "worker a has left (its connection to the broker has ended): the others and the hub compute its groups"
    )
    text.goes_on()
    assert pair.report()["workers"] == 1
    assert [d["name"] for d in pair.report()["devices"]] == ["hub", "a", "b"]  # what a did is not forgotten
    assert said(lines, "does not answer") == 0  # the broker's word came before that


def test_a_frozen_worker_is_stood_in_for_and_used_again_when_it_wakes(pair, generate, lines):
    text = generate(pair)
    pair.workers["a"].send_signal(signal.SIGSTOP)
    heard(lines, "worker a does not answer: the others and the hub compute its groups; it is used again as soon as")
    text.goes_on()
    assert pair.report()["workers"] == 2  # it may wake up at any moment
    pair.workers["a"].send_signal(signal.SIGCONT)
    heard(lines, "worker a is back after")
    eventually(answering(pair, "a"))
    assert said(lines, "worker a") == 2
    assert ("rejoin", 0) not in pair.engine._members.relay.calls  # it had never left


def test_a_worker_whose_will_came_meanwhile_goes_on_where_it_was(pair, generate, lines, loop, broker):
    """Frozen, or cut off, for so long that the broker has given it up."""
    text = generate(pair)
    pair.workers["a"].send_signal(signal.SIGSTOP)
    heard(lines, "worker a does not answer")
    retain(loop, broker.address, PROFILE_A, b"")  # as its will does
    eventually(lambda: pair.report()["workers"] == 1)
    text.goes_on()
    pair.workers["a"].send_signal(signal.SIGCONT)
    heard(lines, "worker a is back after")
    eventually(answering(pair, "a"))
    assert said(lines, "worker a") == 2  # that it does not answer was known
    assert [call for call in pair.engine._members.relay.calls if call[1] == 0] == [
        ("join", 0), ("leave", 0), ("rejoin", 0),
    ]  # fmt: skip
    assert pair.workers["a"].log.read_text().count("serving session") == 1


def test_a_worker_that_ends_in_order_says_so(pair, generate, lines):
    text = generate(pair)
    pair.workers["a"].terminate()
    heard(lines, "worker a has left (it left the cell): the others and the hub compute its groups")
    text.goes_on()
    pair.workers["b"].terminate()
    heard(lines, "worker b has left (it left the cell): the hub computes its groups")
    text.goes_on()
    assert pair.report()["workers"] == 0
    assert said(lines, "has left") == 2


def test_a_worker_that_comes_later_is_used_at_once(open_cell, start_worker, broker, lines, generate):
    cell = open_cell(broker=str(broker.address))
    assert "the hub computes alone" in lines[-1]
    text = generate(cell)
    start_worker("late")
    heard(lines, "worker late has joined: it takes part from the next token on")
    eventually(answering(cell, "late"))
    text.goes_on()
    assert cell.report()["workers"] == 1


def test_no_more_workers_join_than_were_asked_for_until_one_leaves(pair, start_worker, view, lines):
    start_worker("c")
    eventually(lambda: view().roster.profiles.get("c") and view().roster.profiles["c"].state == "ready")
    assert pair.report()["workers"] == 2 and said(lines, "worker c") == 0
    pair.workers["a"].terminate()
    heard(lines, "worker c has joined")
    assert pair._session.members.names() == ["b", "c"]


def test_a_restarted_worker_is_a_new_member_with_the_old_ones_counts(pair, start_worker, generate, lines):
    text = generate(pair)
    pair.workers["a"].kill()
    pair.workers["a"].wait()
    before = next(d["requests"] for d in pair.report()["devices"] if d["name"] == "a")
    start_worker("a")
    heard(lines, "worker a has joined")
    eventually(answering(pair, "a"))
    text.goes_on()
    (device,) = [d for d in pair.report()["devices"] if d["name"] == "a"]
    assert device["requests"] > before and pair.report()["workers"] == 2
    assert said(lines, "worker a has left") == 1


def test_of_two_workers_with_one_name_the_newer_one_computes(pair, start_worker, generate, lines):
    text = generate(pair)
    start_worker("a")
    assert pair.workers["a"].wait(HANG_S) == 1
    heard(lines, "worker a has left (it was started anew)")
    heard(lines, "worker a has joined")
    eventually(answering(pair, "a"))
    text.goes_on()
    assert pair._session.members.names() == ["a", "b"]


def test_a_worker_whose_answers_cannot_be_used_stays_out_until_it_is_started_anew(
    pair, start_worker, generate, lines, loop, broker
):
    """Although its profile says that it is ready, again and again."""
    text = generate(pair)
    pair.engine._members.relay.expel(0, "its answer holds values that are not finite: a sum")
    heard(lines, "worker a is expelled: its answer holds values that are not finite: a sum. The others and the hub")
    assert pair._session.members.names() == ["b"]
    profile = messages.encode(pair._session.roster.profiles["a"])
    for _ in range(3):
        retain(loop, broker.address, PROFILE_A, profile)
    text.goes_on()
    assert pair._session.members.names() == ["b"]
    pair.workers["a"].terminate()
    pair.workers["a"].wait()
    start_worker("a")
    heard(lines, "worker a has joined")
    text.goes_on()
    assert said(lines, "is expelled") == 1 and said(lines, "worker a has left") == 0


def test_a_hub_that_is_started_again_finds_its_workers(
    start_hub,
    start_worker,
    open_cell,
    broker,
    lines,
    generate,
):
    worker = start_worker("a")
    hub = start_hub("compute", str(broker.address))
    eventually(lambda: "serving session" in worker.log.read_text())
    hub.kill()
    hub.wait()
    cell = open_cell(broker=str(broker.address))
    assert lines[-1] == "computing with the hub and 1 worker (a)"
    text = generate(cell)
    eventually(answering(cell, "a"))
    text.goes_on()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_broker_that_goes_and_comes_back_costs_no_member_and_no_token(pair, broker, loop, number, lines, generate):
    """Over MQTT, so that nobody answers meanwhile: the hub computes."""
    text = generate(pair)
    os.kill(broker.child.pid, number)
    heard(lines, "lost the broker")
    eventually(lambda: silent(lines) == {"a", "b"})
    text.goes_on()
    assert pair.report()["workers"] == 2
    if number == signal.SIGKILL:
        restart(loop, broker)
    else:
        os.kill(broker.child.pid, signal.SIGCONT)
    heard(lines, "connected to the broker at")
    eventually(lambda: not silent(lines))
    eventually(answering(pair, "a"))
    eventually(answering(pair, "b"))
    text.goes_on()
    assert said(lines, "lost the broker") == said(lines, "connected to the broker at") == 1
    assert said(lines, "has left") == said(lines, "has joined") == 0
    for worker in pair.workers.values():
        assert worker.log.read_text().count("serving session") == 1
        assert all(line.startswith("halo: ") for line in worker.log.read_text().splitlines())


def test_a_broker_that_is_restarted_while_nothing_is_computed_is_found_by_all(pair, broker, loop, lines):
    restart(loop, broker)
    for worker in pair.workers.values():
        eventually(lambda log=worker.log: "connected to the broker at" in log.read_text())
    heard(lines, "connected to the broker at")
    eventually(lambda: set(read_retained(loop, broker.address)) >= {"halo/halo/hub", PROFILE_A})
    for name in ("a", "b"):
        used = answering(pair, name)
        eventually(lambda used=used: pair.engine.forward(0, np.zeros(1, np.int32)) is not None and used())
    assert said(lines, "worker") == 1  # with whom it computes


def test_a_worker_that_died_while_the_broker_was_away_has_left(pair, broker, loop, lines, generate, monkeypatch):
    monkeypatch.setattr("halo.cell.session._RETURN_AFTER_OUTAGE_S", 1.0)
    text = generate(pair)
    pair.workers["a"].send_signal(signal.SIGSTOP)
    restart(loop, broker)
    pair.workers["a"].kill()
    heard(lines, "connected to the broker at")
    eventually(lambda: pair._session.members.names() == ["b"])
    text.goes_on()


def test_what_a_broker_that_lost_its_power_remembers_ends_nothing(
    remembering, open_cell, start_worker, loop, lines, generate
):
    """It has saved that another hub led the cell, and that the worker served it."""
    url = str(remembering.address)
    start_worker("a", url=url)
    before = open_cell(broker=url, workers=1)
    remembering.save(before._session.session.encode())
    before.close()
    cell = open_cell(broker=url, workers=1)
    text = generate(cell)
    remembering.loses_power()
    heard(lines, "lost the broker")
    remembering.start()
    heard(lines, "connected to the broker at")
    own = messages.encode(cell._session._holder.lease)
    eventually(lambda: read_retained(loop, remembering.address)["halo/halo/hub"] == own)
    eventually(answering(cell, "a"))
    text.goes_on()
    assert said(lines, "taken over") == said(lines, "has left") == said(lines, "has joined") == 0
    assert [call for call in cell._session.members.relay.calls if call[0] != "update"] == [("join", 0)]


def test_a_worker_that_flaps_costs_little(pair, generate, lines, loop, broker):
    """Its profile toggles ten times a second."""
    text = generate(pair)
    ready = pair._session.roster.profiles["a"]
    pair.workers["a"].send_signal(signal.SIGSTOP)  # it would put its profile right each time
    idle = messages.encode(
        messages.Profile(**{**{f: getattr(ready, f) for f in ready.__struct_fields__}, "state": "idle", "session": ""})
    )
    for _ in range(20):
        retain(loop, broker.address, PROFILE_A, idle)
        retain(loop, broker.address, PROFILE_A, messages.encode(ready))
    text.goes_on()
    assert said(lines, "worker a has joined") <= 4
    assert pair._session.members.names()[-1] == "b"


def test_a_hub_that_is_usurped_ends_in_the_middle_of_a_token(pair, loop, broker):
    pair.engine._engine.body = b"slow"
    usurper = messages.Lease(
        session="f" * 16, hub="usurper", model=messages.ModelId("0" * 64, "m", "m.gguf"), n_ctx=64, slots=1,
        partials="fixed", since=1.0,
    )  # fmt: skip
    text = Text(pair)
    retain(loop, broker.address, "halo/halo/hub", messages.encode(usurper))
    eventually(lambda: text.error)
    assert "already has a hub: usurper" in str(text.error)
