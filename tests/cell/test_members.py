"""Who is a member, by what the profiles and the relay say: each case by itself, on a clock of the test's."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import fake_native
import pytest
from msgspec.structs import replace
from test_documents import PROFILE

from halo.cell.members import MOST, Members
from halo.cell.messages import DatagramPlace, encode
from halo.cell.roster import Roster
from halo.errors import CellError
from halo.exchange import datagrams as datagrams_module
from halo.exchange.datagrams import HubDatagrams

SESSION = "5" * 16
NATIVE = SimpleNamespace(
    NativeError=fake_native.NativeError,
    sealing_unavailable=lambda: None,
    KeyPair=lambda: SimpleNamespace(public=bytes(32), check=lambda key: None),
    ciphers=lambda: ["chacha20-poly1305"],
)


class Relay(fake_native.Relay):
    """States are what the test says; `unreached` are the indices that datagrams do not reach."""

    def __init__(self):
        super().__init__(int(SESSION, 16), None)
        self.unreached = set()

    def reaches(self, member):
        return self.table.index(member) not in self.unreached


class Case:
    """A hub's members, and what the test does to them."""

    def __init__(self, transport="mqtt"):
        self.lines = []
        self.clock = 100.0
        self.relay = Relay()
        self.ways = {}
        self.roster = Roster(SESSION)
        exchange = SimpleNamespace(add=lambda i, name, lanes: self.ways.update({i: name}), remove=self.ways.pop)
        self.datagrams = HubDatagrams(NATIVE, transport, loopback=False)
        self.datagrams.open(self.relay)
        self.members = Members(
            SESSION, NATIVE, self.relay, exchange, self.datagrams, self.roster, self.lines.append, lambda: self.clock
        )

    def begin(self, *names, wanted=None):
        for name in names:
            self.roster.hear(name, encode(self.profile(name)))
        asyncio.run(self.members.begin(wanted))
        return self

    def profile(self, name, key="ab", **changes):
        place = DatagramPlace(key=key * 32, ciphers=[], port=40000, addresses=["192.0.2.1"])
        incarnation = f"{sum(name.encode()):016x}"
        ready = replace(PROFILE, name=name, incarnation=incarnation, state="ready", session=SESSION, datagrams=place)
        return replace(ready, **changes)

    def says(self, name, retained=False, **changes):
        assert self.roster.hear(name, encode(self.profile(name, **changes)), retained)
        self.members.hear(name)

    def vanishes(self, name):
        """Its profile is cleared, and not back in time."""
        self.roster.hear(name, b"")
        self.members.miss(name)

    def poll(self, after_s=0.25):
        self.clock += after_s
        self.members.poll()

    def turns(self, name, state, reason=""):
        """The relay finds it in this state."""
        member = self.relay.table[next(i for i, n in self.ways.items() if n == name)]
        member.state, member.reason = state, reason

    def packet(self, name):
        """A datagram comes from it."""
        self.relay.table[next(i for i, n in self.ways.items() if n == name)].packets += 1

    @property
    def calls(self):
        return [call for call in self.relay.calls if call[0] != "update"]


def test_the_first_members_are_no_news_and_later_ones_are():
    case = Case().begin("a", "b")
    assert (case.members.names(), case.lines) == (["a", "b"], [])
    case.says("c")
    assert case.members.names() == ["a", "b", "c"]
    assert case.lines == ["worker c has joined: it takes part from the next token on"]


def test_of_more_workers_than_a_cell_may_have_the_first_by_name_take_part():
    names = [f"w{number:02}" for number in range(MOST + 6)]
    case = Case().begin(*names)
    assert case.members.names() == names[:MOST]
    assert case.lines == ["70 workers are ready: the first 64 by name take part, as many as a cell may have"]
    case.vanishes("w03")
    assert "w64" in case.members.names() and len(case.relay.table) == MOST
    assert case.calls[-2:] == [("forget", 3), ("join", 3)]  # the only index that nobody needs


@pytest.mark.parametrize("state", ["idle", "refused"])
def test_who_says_that_it_serves_no_more_has_left(state):
    case = Case().begin("a", "b")
    case.says("a", state=state, session="", reason="it has another model")
    assert case.members.names() == ["b"]
    assert case.lines == ["worker a has left (it has another model): the others and the hub compute its groups"]


def test_who_comes_later_and_will_not_serve_is_named_once_with_its_reason():
    case = Case().begin("a")
    for _ in range(3):  # its profile comes again, with each lease and each connection
        case.says("b", state="refused", session="", reason="it has another model")
    assert case.lines == ["worker b does not take part: it has another model"]
    case.says("b")
    case.says("b", state="refused", session="", reason="it has another model")
    assert case.lines[1:] == [
        "worker b has joined: it takes part from the next token on",
        "worker b has left (it has another model): the others and the hub compute its groups",
    ]


def test_who_refused_before_the_cell_began_is_no_news_later():
    case = Case()
    case.roster.hear("b", encode(case.profile("b", state="refused", session="", reason="it has another model")))
    case.begin("a")
    case.says("b", state="refused", session="", reason="it has another model")
    assert case.lines == []


def test_who_speaks_another_version_is_named_until_it_speaks_ours():
    case = Case().begin("a")
    other = encode(case.profile("b")).replace(b'"protocol":3', b'"protocol":4')
    for _ in range(2):
        assert not case.roster.hear("b", other)
        case.members.hear("b")
    assert len(case.lines) == 1 and "it speaks protocol 4" in case.lines[0]
    case.says("b")
    assert case.members.names() == ["a", "b"] and case.roster.refusals() == {}


def test_a_change_of_the_connection_is_none_of_the_membership():
    case = Case().begin("a")
    case.roster.hear("a", b"")
    case.says("a")
    case.members.miss("a")
    assert (case.members.names(), case.lines) == (["a"], [])


def test_the_same_process_with_the_same_key_goes_on_at_its_index():
    case = Case("auto").begin("a")
    case.vanishes("a")
    case.says("a")
    case.poll()
    case.poll()
    assert case.calls == [("join", 0), ("leave", 0), ("rejoin", 0)]
    assert case.lines[0].startswith("worker a has left (its connection to the broker has ended): the hub computes")
    assert case.lines[1:] == ["worker a is back after 0.5 s: used again"]


@pytest.mark.parametrize("change", [{"incarnation": "f" * 16}, {"key": "cd"}])
def test_another_process_or_another_key_is_another_member(change):
    case = Case("auto").begin("a", "b")
    case.relay.table[0].counts["requests"] = 7
    case.poll(5)
    case.says("a", **change)
    assert case.calls[2:] == [("leave", 0), ("forget", 0), ("join", 0)]
    assert [line.split(" (")[0] for line in case.lines] == ["worker a has left", case.lines[1]]
    assert case.lines[1].startswith("worker a has joined")
    (device,) = [
        d for d in case.members.settle(lambda: {"devices": [{}, {"requests": 1}]})["devices"] if d["name"] == "a"
    ]
    assert device["requests"] == 8


def test_who_has_ended_the_session_itself_comes_with_empty_caches():
    """Without datagrams only this tells it from one that has them still."""
    case = Case().begin("a")
    case.says("a", state="idle", session="")
    case.poll(1)
    case.says("a")
    assert case.calls == [("join", 0), ("leave", 0), ("forget", 0), ("join", 0)]


def test_each_change_is_told_once():
    case = Case().begin("a", "b")
    case.turns("a", "away")
    for _ in range(5):
        case.poll()
    assert case.lines == [
        "worker a does not answer: the others and the hub compute its groups; it is used again as soon as it answers"
    ]
    case.vanishes("a")  # the broker comes to the same opinion
    case.says("a")
    case.poll()
    case.turns("a", "probation")
    for _ in range(5):
        case.poll()
    assert len(case.lines) == 2 and case.lines[1].startswith("worker a is back after 1.")


def test_what_is_shorter_than_a_look_and_probation_are_not_told():
    case = Case().begin("a")
    case.turns("a", "away")
    case.turns("a", "probation")
    case.poll()
    case.turns("a", "stable")
    case.poll()
    assert case.lines == []


def test_several_at_once_are_one_line():
    case = Case().begin("a", "b", "c")
    for name in ("a", "b"):
        case.turns(name, "away")
    case.poll()
    assert case.lines == [
        "workers a, b do not answer: the others and the hub compute their groups; "
        "they are used again as soon as they answer"
    ]
    for name in ("a", "b"):
        case.turns(name, "stable")
    case.poll(1)
    assert case.lines[1:] == ["workers a, b are back after 1.0 s: used again"]


def test_an_expelled_one_stays_out_until_it_is_another_process():
    case = Case().begin("a", "b")
    case.turns("a", "expelled", "its answer has the wrong shape")
    for _ in range(3):
        case.poll()
        case.says("a")
    case.vanishes("a")
    case.says("a")
    assert case.members.names() == ["b"]
    assert case.lines == [
        "worker a is expelled: its answer has the wrong shape. The others and the hub compute its groups, until it is "
        "started anew"
    ]
    case.poll(5)
    case.says("a", incarnation="f" * 16)
    assert case.members.names() == ["a", "b"]


def test_who_has_lost_only_the_broker_is_used_as_long_as_its_datagrams_come():
    case = Case("auto").begin("a")
    case.vanishes("a")
    case.packet("a")
    case.poll(0.5)  # these were on their way when it left
    assert case.members.names() == []
    case.poll(1)
    assert case.members.names() == []
    case.packet("a")
    case.poll()
    case.poll()
    assert case.members.names() == ["a"]
    assert case.lines[-1] == "worker a is back after 2.0 s: used again"
    case.says("a")  # it finds the broker, too: nothing new
    assert case.calls == [("join", 0), ("leave", 0), ("rejoin", 0)]
    case.roster.hear("a", b"")
    case.turns("a", "away")
    case.poll(5)
    assert case.members.names() == []  # nobody knows it any more


def test_who_left_by_its_own_word_does_not_come_back_by_a_packet():
    case = Case("auto").begin("a")
    case.says("a", state="idle", session="", reason="it left the cell")
    case.poll(2)
    case.packet("a")
    case.poll(2)
    assert case.members.names() == []


def test_after_an_outage_those_have_left_of_whom_neither_broker_nor_datagrams_tell():
    case = Case("auto").begin("a", "b", "c")
    case.poll(10)
    for name in ("a", "b"):
        case.packet(name)
    case.poll()
    case.roster.doubt()
    case.says("b")
    case.roster.settle_doubts()
    case.members.miss_silent_ones()
    assert case.members.names() == ["a", "b"]
    assert case.lines == [
        "worker c has left (its connection to the broker has ended): the others and the hub compute its groups"
    ]


def test_after_an_outage_late_wills_miss_nobody_who_comes_back():
    """A broker that hung sends the wills of connections that it takes for dead, before their devices have found it."""
    case = Case().begin("a", "b")
    case.roster.doubt()
    for name in ("a", "b"):
        case.vanishes(name)
    case.turns("a", "away")
    case.poll(2)
    case.says("b")
    assert case.members.names() == ["a", "b"] and "has left" not in "".join(case.lines)
    case.roster.doubt()  # once more, before that has been settled
    case.poll(2)
    assert case.members.names() == ["a", "b"]
    case.says("b")
    case.roster.settle_doubts()
    case.members.miss_silent_ones()
    assert case.members.names() == ["b"]


def test_after_an_outage_what_the_broker_remembers_of_a_member_ends_nothing_until_it_speaks():
    """A broker that has lost power has forgotten what it was told last."""
    case = Case("auto").begin("a", "b", "c")
    case.roster.doubt()
    case.says("a", retained=True, state="idle", session="")
    case.says("b", retained=True, state="ready", key="cd")
    case.says("c", retained=True, incarnation="f" * 16)
    assert not case.roster.ready()  # that one of them is there is not known yet
    case.says("a")
    case.says("b", state="idle", session="", reason="it left the cell")
    case.poll(10)
    assert case.roster.ready() == ["a"] and case.members.names() == ["a", "c"]
    case.roster.settle_doubts()
    case.members.miss_silent_ones()
    assert case.members.names() == ["a"]
    assert [call for call in case.calls if call[0] != "leave"] == [("join", 0), ("join", 1), ("join", 2)]
    assert [line.partition(": ")[0] for line in case.lines] == [
        "worker b has left (it left the cell)",
        "worker c has left (its connection to the broker has ended)",
    ]


def test_who_is_not_known_is_known_by_what_the_broker_retains_after_an_outage_too():
    case = Case().begin("a")
    case.roster.doubt()
    case.says("b", retained=True)
    assert case.members.names() == ["a", "b"]


def test_who_comes_too_often_waits():
    case = Case().begin("a", "b")
    joined = 0
    for _ in range(300):  # a minute
        case.says("a", state="idle", session="")
        case.says("a")
        case.poll(0.2)
        joined = sum("a has joined" in line for line in case.lines)
    assert 10 < joined < 30 and len(case.relay.table) == 2
    assert case.members.names()[-1] == "b"


def test_a_first_member_that_datagrams_do_not_reach_is_an_error_where_nothing_else_may_carry(monkeypatch):
    monkeypatch.setitem(datagrams_module._LINKS_COME_S, "udp", 0.0)
    case = Case("udp")
    case.relay.unreached.add(1)
    with pytest.raises(CellError, match=r"\(--transport udp\): b: datagrams are not answered.* Or use auto"):
        case.begin("a", "b")


def test_a_later_one_that_they_do_not_reach_is_left_out_until_they_do():
    case = Case("udp").begin("a")
    case.relay.unreached.add(1)
    case.says("b")
    case.poll(1)
    assert case.lines == []
    case.poll(3)
    for _ in range(3):
        case.says("b")
        case.poll(1)
    assert case.members.names() == ["a"]
    assert case.lines == [
        "worker b does not take part: datagrams are not answered: a firewall between the devices? "
        "(UDP port 40000 there)"
    ]
    case.relay.unreached.clear()
    case.packet("b")
    case.poll()
    case.poll()
    assert case.members.names() == ["a", "b"]
    assert case.lines[1:] == ["worker b has joined: it takes part from the next token on"]


def test_a_later_one_that_they_reach_is_told_when_they_have():
    case = Case("udp").begin("a")
    case.says("b")
    case.poll()
    assert case.lines == ["worker b has joined: it takes part from the next token on"]
    case.says("c", datagrams=None)
    case.poll()
    assert case.lines[1:] == ["worker c does not take part: it cannot seal datagrams, or has no socket for them"]


def test_no_link_is_made_twice_with_the_same_keys():
    """Its packet numbers would begin anew."""
    case = Case("auto").begin("a")
    for number in range(MOST - 1):
        case.says(f"w{number}")
    case.vanishes("a")
    case.poll(5)
    case.says("new")  # it needs the index of a
    case.vanishes("new")
    case.poll(5)
    case.says("a")
    assert "a" in case.members.names()
    assert case.relay.table[0].offer is None
    assert case.datagrams.troubles["a"] == "its link was given up, and the same keys open no second one: start it anew"
    case.says("a", key="cd")
    case.poll(5)
    assert case.relay.table[0].offer is not None


def test_closing_gives_up_every_link_and_keeps_the_counts():
    case = Case("auto").begin("a", "b")
    case.relay.table[1].counts["requests"] = 5
    case.members.close()
    case.says("a")
    case.poll()
    assert case.relay.table == [None, None] and case.lines == []
    figures = {d["name"]: d for d in case.members.settle(dict)["devices"]}
    assert figures["b"]["requests"] == 5
