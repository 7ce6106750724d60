"""Two ends of a link over a network that exists in virtual time only."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from halo import _native

CHANNEL = 0xC0FFEE
KEYS = (b"\x01" * 32, b"\x02" * 12, b"\x03" * 32, b"\x04" * 12)  # of one direction, and of the other
START = 10_000_000
CLEAR, HEADER, TAG = 12, 24, 16  # bytes of a packet, see docs/protocol.md


def two_ends(cipher: int = 1) -> tuple[_native.Channel, _native.Channel]:
    """The hub's and a worker's."""
    return (
        _native.Channel(CHANNEL, cipher, *KEYS),
        _native.Channel(CHANNEL, cipher, *KEYS[2:], *KEYS[:2]),
    )


@dataclass(frozen=True)
class Network:
    """loss, duplicate, reorder: probabilities, per datagram; burst: mean length of a run of lost ones; times in us."""

    loss: float = 0.0
    burst: float = 1.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_us: int = 1000


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

    def __post_init__(self) -> None:
        self.ends = two_ends()
        self._random = random.Random(self.seed)
        self._bad = [False, False]
        self._flying: list[tuple[int, int, int, bytes]] = []
        self._count = 0

    def tell(self, end: int, message: bytes) -> None:
        self._fly(end, self.ends[end].send(message, self.now))

    def run(self, until: int) -> None:
        """Let virtual time pass."""
        while (event := self._next()) <= until:
            self.now = max(self.now, event)
            self._arrive()
            for end in (0, 1):
                due = self.ends[end].next_work()
                if due is not None and due <= self.now:
                    self._fly(end, self.ends[end].work(self.now))
        self.now = until

    def run_until_quiet(self, most_us: int) -> bool:
        """Whether nothing flies any more and no end has anything to do, within that time."""
        end = self.now + most_us
        while self._next() <= end:
            self.run(self._next())
        return self._next() == _NEVER

    def _next(self) -> int:
        due = [t for t in (e.next_work() for e in self.ends) if t is not None]
        return max(self.now, min([*due, self._flying[0][0] if self._flying else _NEVER]))

    def _fly(self, source: int, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.sent[source] += 1
            self.captured.append((1 - source, datagram))
            if self._is_lost(source):
                self.lost[source] += 1
                continue
            for at in self._arrivals():
                self._count += 1
                heapq.heappush(self._flying, (at, self._count, 1 - source, datagram))

    def _is_lost(self, source: int) -> bool:
        loss, burst = self.network.loss, self.network.burst
        if burst <= 1:
            return self._random.random() < loss
        leave, enter = 1 / burst, min(1.0, loss / (1 - loss) / burst)
        self._bad[source] = self._random.random() >= leave if self._bad[source] else self._random.random() < enter
        return self._bad[source]

    def _arrivals(self) -> Iterator[int]:
        drawn, n = self._random, self.network
        for _ in range(1 + (drawn.random() < n.duplicate)):
            held = drawn.randrange(1 + 3 * n.delay_us + 1000) if drawn.random() < n.reorder else 0
            yield self.now + n.delay_us + held

    def _arrive(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, end, datagram = heapq.heappop(self._flying)
            messages, _ = self.ends[end].receive(datagram, self.now)
            self.delivered[end].update(messages)


_NEVER = 1 << 62


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
