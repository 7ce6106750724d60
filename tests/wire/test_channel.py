"""A link delivers every message once and unchanged, whatever the network does, and then falls silent."""

from __future__ import annotations

import random
import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native
from tests.wire.simulation import CHANNEL, CLEAR, HEADER, START, TAG, Attacker, Link, Network, two_ends

pytestmark = pytest.mark.skipif(_native.sealing_unavailable() is not None, reason=str(_native.sealing_unavailable()))
MINUTE = 60_000_000
UNDER_WAY = 32  # messages after which an older one is given up
MAX_FRAGMENT = 1136
NETWORKS = st.builds(
    Network,
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.6]),
    burst=st.sampled_from([1.0, 4.0]),
    duplicate=st.sampled_from([0.0, 0.1, 0.9]),
    reorder=st.sampled_from([0.0, 0.1, 0.9]),
    delay_us=st.sampled_from([0, 100, 2000, 50000]),
)
SIZES = st.one_of(
    st.integers(0, 9000),
    st.sampled_from([0, 1, 16, MAX_FRAGMENT, MAX_FRAGMENT + 1, 8 * MAX_FRAGMENT, 60_000, 250_000, 272_640]),
)


def message(number: int, size: int) -> bytes:
    """One that differs from all others, as far as its size allows."""
    return random.Random(number * 1_000_003 + size).randbytes(size)


@settings(max_examples=80, deadline=None)
@given(
    network=NETWORKS,
    seed=st.integers(0, 2**32),
    told=st.lists(st.tuples(st.integers(0, 1), SIZES, st.sampled_from([0, 100, 5000])), min_size=1, max_size=20),
)
def test_every_message_arrives_once_and_unchanged(
    network: Network, seed: int, told: list[tuple[int, int, int]]
) -> None:
    link = Link(network, seed)
    expected: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
    for number, (end, size, pause_us) in enumerate(told):
        link.tell(end, message(number, size))
        expected[1 - end][message(number, size)] += 1
        link.run(link.now + pause_us)
    assert link.run_until_quiet(10 * MINUTE)
    assert link.delivered == expected
    assert all(end.counters()["malformed"] == end.counters()["forged"] == 0 for end in link.ends)


@settings(max_examples=20, deadline=None)
@given(network=NETWORKS, seed=st.integers(0, 2**32), pause_us=st.sampled_from([0, 300, 3000]))
def test_what_is_given_up_is_forgotten_by_both_ends(network: Network, seed: int, pause_us: int) -> None:
    """More messages than may be under way: those that arrive are whole, and nobody asks for the others for ever."""
    link = Link(network, seed)
    told = [message(number, 3000) for number in range(150)]
    for one in told:
        link.tell(0, one)
        link.run(link.now + pause_us)
    assert link.run_until_quiet(10 * MINUTE)
    arrived = link.delivered[1]
    assert set(arrived.values()) <= {1} and set(arrived) <= set(told)
    assert set(told[-UNDER_WAY:]) <= set(arrived)
    assert len(told) - len(arrived) <= link.ends[0].counters()["dropped"]


def test_a_message_is_not_taken_for_acknowledged_because_later_ones_are() -> None:
    """Its number leaves what an acknowledgement can name: then it counts as dropped, and not as sent."""
    hub, worker = two_ends()
    hub.send(message(0, 100), START)
    for number in range(1, 40):
        for datagram in hub.send(message(number, 100), START):
            worker.receive(datagram, START)
        for datagram in worker.work(START + 1000):
            hub.receive(datagram, START)
        assert hub.counters()["dropped"] == (1 if number >= UNDER_WAY else 0)


def test_a_message_that_is_too_long_is_dropped_and_counted() -> None:
    hub, _ = two_ends()
    assert hub.send(bytes(_native.Channel.MAX_MESSAGE + 1), START) == []
    assert hub.counters()["dropped"] == 1
    assert hub.next_work() is None


@pytest.mark.parametrize("pause_us", [1_000, 30_000_000])
@pytest.mark.parametrize("size", [10, 9000, 250_000])
def test_a_link_that_was_dead_for_a_while_goes_on(size: int, pause_us: int) -> None:
    link = Link(Network(loss=1.0))
    for end in (0, 1):
        link.tell(end, message(end, size))
    link.run(link.now + pause_us)
    link.network = Network()
    assert link.run_until_quiet(MINUTE)
    assert link.delivered == (Counter([message(1, size)]), Counter([message(0, size)]))


@settings(max_examples=40, deadline=None)
@given(size=st.sampled_from([3000, 9000, 60_000, 250_000]), data=st.data())
def test_repairs_are_what_was_lost(size: int, data: st.DataObject) -> None:
    hub, worker = two_ends()
    lost = data.draw(st.sets(st.integers(1, -(-size // MAX_FRAGMENT) - 1), max_size=20))
    got, first_run, now = [], 0, START
    pending = hub.send(message(1, size), now)
    for _ in range(400):
        for datagram in pending:
            if first_run not in lost:
                got += worker.receive(datagram, now)[0]
            first_run += 1
        for datagram in worker.work(now):
            hub.receive(datagram, now)
        now += 250
        pending = hub.work(now)
    assert got == [message(1, size)]
    spare = 0 if size < 16 * MAX_FRAGMENT else 8  # a loss that is known already calls for parity of the repairs
    assert len(lost) <= hub.counters()["repairs"] <= len(lost) + (spare if lost else 0)


def with_attack(link: Link, until: int, drawn: random.Random) -> None:
    """As `link.run`, with all that somebody on the way without keys can make, before each thing that happens."""
    received: tuple[list[bytes], list[bytes]] = ([], [])
    inner = link._arrive

    def arrive() -> None:
        for end in (0, 1):
            for datagram in hostile(received[end], [d for to, d in link.captured[-20:] if to != end], drawn):
                assert link.ends[end].receive(datagram, link.now) == ([], "bad")
        received_before = [(entry[2], entry[3]) for entry in link._flying if entry[0] <= link.now]
        inner()
        for end, datagram in received_before:
            received[end].append(datagram)

    link._arrive = arrive  # type: ignore[method-assign]
    link.run(until)
    link._arrive = inner  # type: ignore[method-assign]


def hostile(received: list[bytes], reflected: list[bytes], drawn: random.Random) -> list[bytes]:
    made = [drawn.randbytes(drawn.choice([0, 3, 12, 60, 1200, 1500])), *reflected[:1]]
    if received:
        one = drawn.choice(received[-50:])
        at = drawn.randrange(len(one))
        flipped = bytearray(one)
        flipped[at] ^= 1 << drawn.randrange(8)
        number = bytearray(one)
        number[4:12] = drawn.randbytes(8)
        # A channel looks at no channel number but the sealed one: whose a datagram is, the endpoint has decided.
        made += [one, bytes(flipped), bytes(number), one[:at], one + b"\0", b"\0\0\0\0" + one[4:]]
    return made


@pytest.mark.parametrize("seed", range(6))
def test_what_others_send_changes_nothing_but_counters(seed: int) -> None:
    """Garbage, replays, truncation, forgery, reflection: the same datagrams are sent at the same times as without."""
    network = Network(loss=0.1, duplicate=0.1, reorder=0.2)
    calm, attacked = Link(network, seed), Link(network, seed)
    drawn = random.Random(seed)
    for number in range(12):
        for link in (calm, attacked):
            link.tell(number % 2, message(number, 500 * number))
        calm.run(calm.now + 4000)
        with_attack(attacked, attacked.now + 4000, drawn)
    assert calm.captured == attacked.captured
    assert calm.delivered == attacked.delivered
    for before, after in zip(calm.ends, attacked.ends, strict=True):
        changed = {name for name, count in after.counters().items() if count != before.counters()[name]}
        assert changed == {"forged", "replayed", "malformed"}
        assert before.report() == after.report()


def header(kind: int, flags: int = 0) -> bytes:
    return bytes([kind, flags, 0, 0]) + bytes(HEADER - 4)


def fragment(number: int, length: int, index: int, data: int, size: int) -> bytes:
    return header(1) + struct.pack("<IIBBH", number, length, index, data, size) + bytes(size)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        header(0),
        header(9),
        header(1),
        header(2) + b"\0",
        header(3) + bytes(35),
        fragment(0, 10, 0, 1, 16),
        fragment(1, 10, 0, 0, 16),
        fragment(1, 10, 0, 2, 16),
        fragment(1, 10, 9, 1, 16),
        fragment(1, 10, 0, 1, 15),
        fragment(1, 10, 0, 1, 1152)[:-40],
        fragment(1, 10, 0, 1, 16)[:-1],
        fragment(1, 2**32 - 1, 0, 240, 16),
    ],
)
def test_a_packet_that_opens_and_makes_no_sense_is_counted(plain: bytes) -> None:
    _, worker = two_ends()
    messages, _ = worker.receive(Attacker(1).packet(plain), START)
    assert messages == []
    assert worker.counters()["malformed"] == 1


def test_one_message_in_two_cuts_is_refused() -> None:
    """The buffer of the first cut does not hold fragments of the second."""
    _, worker = two_ends()
    attacker = Attacker(1)
    worker.receive(attacker.packet(fragment(1, 1000, 0, 63, 16)), START)
    worker.receive(attacker.packet(fragment(1, 1000, 8, 1, 1008)), START)
    assert worker.counters()["malformed"] == 1


def test_incomplete_messages_take_bounded_memory_and_are_not_asked_for_for_ever() -> None:
    _, worker = two_ends()
    attacker = Attacker(1)
    for number in range(1, 2000):
        worker.receive(attacker.packet(fragment(number, 270_000, 0, 238, 1136)), START)
        worker.receive(attacker.packet(fragment(1, 270_000, 1, 238, 1136)), START)  # one that was given up
    assert worker.counters()["dropped"] == 1999 - UNDER_WAY
    assert len(worker.work(START + MINUTE)) == UNDER_WAY


def stream(link: Link, seconds: float) -> None:
    """Requests and answers, as syncs make them."""
    for number in range(int(seconds * 500)):
        link.tell(0, message(number, 2200))
        link.tell(1, message(number, 4100))
        link.run(link.now + 2000)


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 1.0), (0.05, 1.0), (0.2, 1.0), (0.05, 4.0)])
def test_loss_is_measured_and_parity_follows(loss: float, burst: float) -> None:
    link = Link(Network(loss=loss, burst=burst, reorder=0.05, delay_us=500), seed=3)
    stream(link, 4)
    spread = 6 * (loss * (1 - loss) * (2 * burst - 1) / 1024) ** 0.5
    for here, there in (link.ends, link.ends[::-1]):
        assert abs(here.report()["loss_from"] - loss) < spread
        assert abs(there.report()["loss_to"] - here.report()["loss_from"]) < 0.02
        assert abs(here.report()["burst_from"] - max(burst, 1 / (1 - loss))) < burst / 2
        assert here.counters()["restored"] > 0
    sent = sum(link.sent)
    link.network = Network(delay_us=500)
    stream(link, 6)
    before = sum(link.sent)
    stream(link, 1)
    assert sum(link.sent) - before == 500 * (2 + 4 + 2)  # no parity any more, and one acknowledgement each
    assert before > sent


def test_parity_spares_most_repairs() -> None:
    link = Link(Network(loss=0.05, delay_us=2000), seed=4)
    stream(link, 2)
    before = [end.counters()["repairs"] + end.counters()["timeouts"] for end in link.ends]
    stream(link, 4)
    after = [end.counters()["repairs"] + end.counters()["timeouts"] for end in link.ends]
    assert sum(after) - sum(before) < 0.04 * 2 * 2000


def test_reordering_is_not_taken_for_loss() -> None:
    link = Link(Network(reorder=0.1, duplicate=0.1, delay_us=300), seed=5)
    stream(link, 2)
    assert all(end.report()["loss_from"] < 0.01 for end in link.ends)


def test_acknowledgements_travel_with_answers() -> None:
    """A request and its answer in time take no packet more than they need."""
    link = Link(Network(delay_us=100))
    for number in range(50):
        link.tell(0, message(number, 1000))
        link.run(link.now + 150)
        link.tell(1, message(number, 1000))
        link.run(link.now + 150)
    assert link.sent == [50, 50]


@pytest.mark.parametrize("start", [1, 2**32 - 5001, 2**40 - 7])
def test_it_does_not_matter_what_time_it_is(start: int) -> None:
    """The clock of a packet has 32 bits of microseconds, which go round every 71 minutes."""
    network = Network(loss=0.1, reorder=0.1)
    links = [Link(network, 7), Link(network, 7, now=start)]
    for link in links:
        stream(link, 0.2)
        assert link.run_until_quiet(MINUTE)
        # A clock of 0 says "none", so that it is told as 1: the one difference there may be, which is not to be here.
        assert all(moment % 2**32 for moment in link.moments)
    assert [moment - START for moment in links[0].moments] == [moment - start for moment in links[1].moments]
    assert links[0].sent == links[1].sent
    assert links[0].delivered == links[1].delivered
    for one, other in zip(links[0].ends, links[1].ends, strict=True):
        assert one.report() == other.report()
        assert one.counters() == other.counters()


def test_a_packet_says_whose_it_is_and_hides_the_rest() -> None:
    hub, _ = two_ends()
    (datagram,) = hub.send(b"secret" * 10, START)
    assert datagram[:4] == CHANNEL.to_bytes(4, "little")
    assert datagram[4:CLEAR] == (1).to_bytes(8, "little")
    assert b"secret" not in datagram
    assert len(datagram) == CLEAR + HEADER + 12 + 64 + TAG
