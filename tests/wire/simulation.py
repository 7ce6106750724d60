"""The two ends of a link, or a hub and its workers, over a network that exists in virtual time only."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from halo import _native

CHANNEL = 0xC0FFEE
KEYS = (b"\x01" * 32, b"\x02" * 12, b"\x03" * 32, b"\x04" * 12)  # of one direction, and of the other
START = 10_000_000
CLEAR, HEADER, TAG = 12, 24, 16  # bytes of a packet, see docs/protocol.md
FRAME = 42  # bytes that Ethernet, IP and UDP add to a datagram


def two_ends(cipher: int = 1) -> tuple[_native.Channel, _native.Channel]:
    """The hub's and a worker's."""
    return (
        _native.Channel(CHANNEL, cipher, *KEYS),
        _native.Channel(CHANNEL, cipher, *KEYS[2:], *KEYS[:2]),
    )


@dataclass
class Medium:
    """Wi-Fi's, which carries one frame at a time, whoever sends it, in the order in which they are handed in."""

    rate_mbit: float = 40.0
    frame_us: int = 200  # that each frame takes in addition
    free_at: int = 0

    def carry(self, size: int, now: int) -> int:
        """When a datagram of that many bytes has crossed it; a lost one takes as long."""
        self.free_at = max(self.free_at, now) + self.frame_us + math.ceil((size + FRAME) * 8 / self.rate_mbit)
        return self.free_at


@dataclass(frozen=True)
class Network:
    """loss, duplicate, reorder: probabilities, per datagram; burst: mean length of a run of lost ones; times in us.

    medium: which all links that have the same one share; none: there is room for everything.
    """

    loss: float = 0.0
    burst: float = 1.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_us: int = 1000
    medium: Medium | None = None


@dataclass
class Link:
    """`tell(end, message)` hands in a message; `delivered[end]` counts what came out at that end."""

    network: Network
    seed: int = 0
    now: int = START
    delivered: tuple[Counter[bytes], Counter[bytes]] = field(default_factory=lambda: (Counter(), Counter()))
    sent: list[int] = field(default_factory=lambda: [0, 0])
    lost: list[int] = field(default_factory=lambda: [0, 0])
    captured: list[tuple[int, bytes]] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    """When anything was handed to an end."""

    def __post_init__(self) -> None:
        self.ends = two_ends()
        self._random = random.Random(self.seed)
        self._bad = [False, False]
        self._flying: list[tuple[int, int, int, bytes]] = []
        self._count = 0

    def tell(self, end: int, message: bytes) -> None:
        self.moments.append(self.now)
        self._fly(end, self.ends[end].send(message, self.now))

    def run(self, until: int) -> None:
        """Let virtual time pass."""
        while (event := self.next_event()) <= until:
            self.now = max(self.now, event)
            self.moments.append(self.now)
            self._arrive()
            for end in (0, 1):
                due = self.ends[end].next_work()
                if due is not None and due <= self.now:
                    self._fly(end, self.ends[end].work(self.now))
        self.now = until

    def run_until_quiet(self, most_us: int) -> bool:
        """Whether nothing flies any more and no end has anything to do, within that time."""
        end = self.now + most_us
        while self.next_event() <= end:
            self.run(self.next_event())
        return self.next_event() == _NEVER

    def next_event(self) -> int:
        """When something happens again if nobody tells anything; far in the future: never."""
        due = [t for t in (e.next_work() for e in self.ends) if t is not None]
        return max(self.now, min([*due, self._flying[0][0] if self._flying else _NEVER]))

    def _fly(self, source: int, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.sent[source] += 1
            self.captured.append((1 - source, datagram))
            medium = self.network.medium
            crossed = self.now if medium is None else medium.carry(len(datagram), self.now)
            if self._is_lost(source):
                self.lost[source] += 1
                continue
            for at in self._arrivals(crossed):
                self._count += 1
                heapq.heappush(self._flying, (at, self._count, 1 - source, datagram))

    def _is_lost(self, source: int) -> bool:
        loss, burst = self.network.loss, self.network.burst
        if burst <= 1:
            return self._random.random() < loss
        leave, enter = 1 / burst, min(1.0, loss / (1 - loss) / burst)
        self._bad[source] = self._random.random() >= leave if self._bad[source] else self._random.random() < enter
        return self._bad[source]

    def _arrivals(self, crossed: int) -> Iterator[int]:
        drawn, n = self._random, self.network
        for _ in range(1 + (drawn.random() < n.duplicate)):
            held = drawn.randrange(1 + 3 * n.delay_us + 1000) if drawn.random() < n.reorder else 0
            yield crossed + n.delay_us + held

    def _arrive(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, end, datagram = heapq.heappop(self._flying)
            messages, _ = self.ends[end].receive(datagram, self.now)
            self.delivered[end].update(messages)


_NEVER = 1 << 62


class Star:
    """A hub (end 0 of each link) and its workers on one medium, which answer each request at once."""

    def __init__(self, workers: int, network: Network, seed: int = 0) -> None:
        self.links = [Link(network, 100 * seed + worker) for worker in range(workers)]
        self.now = START

    def sync(self, request: Callable[[int], bytes], reply: Callable[[int], bytes], most_us: int) -> bool:
        """One request to each worker; whether all replies have come within that time. Both are made for a worker."""
        awaited = [(link, request(i), reply(i)) for i, link in enumerate(self.links)]
        for link, asked, _ in awaited:
            link.run(self.now)
            link.tell(0, asked)
        answered: set[int] = set()
        end = self.now + most_us
        while not all(link.delivered[0][answer] for link, _, answer in awaited):
            self.now = min(link.next_event() for link in self.links)
            if self.now > end:
                return False
            for link, asked, answer in awaited:
                link.run(self.now)
                if link.delivered[1][asked] and id(link) not in answered:
                    answered.add(id(link))
                    link.tell(1, answer)
        return True

    def run_until_quiet(self, most_us: int) -> bool:
        """As a link does."""
        end = self.now + most_us
        while (event := min(link.next_event() for link in self.links)) <= end:
            self.now = event
            for link in self.links:
                link.run(event)
        return event == _NEVER

    def counted(self) -> Counter[str]:
        """The counters of all ends together."""
        total: Counter[str] = Counter()
        for link in self.links:
            for end in link.ends:
                total.update(end.counters())
        return total


class Attacker:
    """Somebody with the keys of one direction: makes packets as nobody else would."""

    def __init__(self, end: int) -> None:
        """Its packets go to that end of a `Link`."""
        self._sealer = _native.Sealer(1, *(KEYS[:2] if end == 1 else KEYS[2:]))
        self.number = 1 << 20

    def packet(self, plain: bytes) -> bytes:
        self.number += 1
        clear = CHANNEL.to_bytes(4, "little") + self.number.to_bytes(8, "little")
        return clear + self._sealer.seal(self.number, clear, plain)
