"""What a hub does where somebody else writes to its lease's topic, with the time in the test's hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from test_documents import LEASE

from halo.cell import lease as module
from halo.cell.lease import LeaseHolder
from halo.cell.messages import encode
from halo.cell.topics import Topics

TOPICS = Topics("halo")
FOREIGN = b'{"protocol":4,"hub":"pi9"}'


class Case:
    """A hub that has published its lease, and the broker's retained message."""

    def __init__(self, monkeypatch):
        self.clock = 100.0
        self.stands = b""
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock))
        self.holder = LeaseHolder(TOPICS, lambda: "", lambda lease: None)
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
