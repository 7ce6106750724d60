"""What a hub does where somebody else writes to its lease's topic, with the time in the test's hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from test_documents import LEASE

from halo.cell import lease as module
from halo.cell.lease import LeaseHolder
from halo.cell.messages import Beat, encode
from halo.cell.topics import Topics

TOPICS = Topics("halo")
FOREIGN = b'{"protocol":4,"hub":"pi9"}'
OTHERS = encode(replace(LEASE, session="9" * 16, hub="pi9"))
OTHERS_BEAT = encode(Beat(session="9" * 16))


class Case:
    """A hub that has published its lease, and the broker's retained message."""

    def __init__(self, monkeypatch):
        self.clock = 100.0
        self.stands = b""
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock))
        self.usurpers = []
        self.holder = LeaseHolder(TOPICS, lambda: "8" * 16, lambda lease: self.usurpers.append(lease.hub))
        asyncio.run(self.holder.publish(self, LEASE))
        self.holder.hear(self, self.stands, False)

    async def publish(self, topic, payload, *, retain=False):
        self.send(topic, payload, retain=retain)

    def send(self, topic, payload, *, retain=False):
        if topic == TOPICS.lease:
            assert retain
            self.stands = payload

    def write(self, payload, retained=False):
        self.stands = payload
        self.holder.hear(self, payload, retained)

    def wait(self, seconds, foreign_beats=False, retained=False):
        for _ in range(seconds):
            self.clock += 1
            self.holder.beat(self)
            if foreign_beats:
                self.holder.hear_beat(FOREIGN, retained)

    @property
    def is_own(self):
        return self.stands == encode(LEASE)


@pytest.fixture
def case(monkeypatch):
    return Case(monkeypatch)


def test_what_is_no_lease_is_written_over_with_the_next_beat(case):
    case.write(b"rubbish")
    assert not case.is_own
    case.wait(1)
    assert case.is_own


def test_a_lease_of_another_version_stands_as_long_as_its_hub_lives(case):
    case.write(FOREIGN)
    case.wait(10, foreign_beats=True)
    assert case.stands == FOREIGN
    case.wait(10)
    assert case.is_own


def test_a_retained_heartbeat_is_no_sign_of_life_of_another_version_either(case):
    case.write(FOREIGN)
    case.wait(10, foreign_beats=True, retained=True)
    assert case.is_own


def test_after_a_reconnection_the_lease_of_another_version_gets_its_time_too(case):
    case.holder.reconnected()
    case.write(FOREIGN, retained=True)
    asyncio.run(case.holder.put_back(case))
    assert case.stands == FOREIGN
    case.wait(4)
    assert case.is_own
    case.holder.hear(case, case.stands, False)
    case.stands = b""  # a broker that has forgotten all
    asyncio.run(case.holder.put_back(case))
    assert case.is_own


def test_who_leaves_clears_no_lease_of_another_version(case):
    assert case.holder.leads
    case.write(FOREIGN)
    assert not case.holder.leads  # so that its plan is left alone, too
    asyncio.run(case.holder.clear(case))
    assert case.stands == FOREIGN


def reconnects(case, stands):
    """The hub finds this at the broker."""
    case.write(encode(LEASE))  # it has been shown
    case.holder.reconnected()
    case.write(stands, retained=True)
    asyncio.run(case.holder.put_back(case))


def test_a_dead_hubs_lease_that_the_broker_remembers_is_written_over(case):
    reconnects(case, OTHERS)
    for _ in range(3):
        assert case.stands == OTHERS and not case.holder.leads
        case.holder.hear_beat(OTHERS_BEAT, True)  # nobody has said that
        case.holder.hear_beat(encode(Beat(session=LEASE.session)), False)
        case.clock += 1
        assert not case.holder.beat(case)
    case.clock += 1
    assert case.holder.beat(case) and case.is_own  # who says more beside the lease is told
    assert case.holder.leads and not case.usurpers
    case.holder.hear_beat(OTHERS_BEAT, False)  # too late
    assert not case.holder.beat(case) and not case.usurpers


def test_to_a_living_hub_that_has_come_meanwhile_the_cell_is_given_up(case):
    reconnects(case, OTHERS)
    case.wait(2)
    assert case.holder.failure is None
    case.holder.hear_beat(OTHERS_BEAT, False)
    assert "already has a hub: pi9" in str(case.holder.failure)
    case.wait(10)
    asyncio.run(case.holder.clear(case))
    assert case.stands == OTHERS and case.usurpers == ["pi9"]


def test_a_lease_that_comes_while_another_one_is_doubted_is_a_living_hubs(case):
    reconnects(case, OTHERS)
    case.write(encode(replace(LEASE, session="7" * 16, hub="pi8")))
    assert case.usurpers == ["pi8"]


def test_when_the_doubted_lease_is_cleared_ours_is_back_at_once(case):
    reconnects(case, OTHERS)
    case.write(b"")
    assert case.is_own and case.holder.leads


def test_the_lease_that_this_hub_has_taken_over_is_not_waited_for_again(case):
    reconnects(case, encode(replace(LEASE, session="8" * 16)))
    assert case.is_own


def test_who_leaves_before_that_is_known_leaves_the_doubted_lease(case):
    reconnects(case, OTHERS)
    asyncio.run(case.holder.clear(case))
    case.wait(10)
    assert case.stands == OTHERS
