"""What the broker costs HALO: is it there, how long a message takes, are small ones held back, is it open to all."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from halo.cell.address import Address
from halo.cell.caution import is_loopback
from halo.cell.connection import Connection
from halo.cell.topics import Topics
from halo.cell.view import running
from halo.doctor.finding import Finding, Unreadable, bad, named, ok, warn
from halo.errors import BrokerError
from halo.words import clean

_ROUNDS = 30
_PAIRS = 9
_LIMIT_S = 2.0
"""For all rounds of one kind together, and for a single message."""
_VERSION = "$SYS/broker/version"
_VERSION_S = 0.3
_PAYLOAD = 2176
"""Bytes of a request: 2048 values as Q8_0 blocks."""
_LONG = 65_536
"""Bytes of the longest message where not all workers are reached by datagrams, but for models with very long rows."""
_SYNCS = 44
"""Of a token of TinyLlama: two a layer."""
_SLOW_MS = 10.0
_STALL_MS = 150.0
"""TCP's shortest wait before it repeats a lost segment is 200 ms on most systems."""
_HELD_BACK_MS = 20.0
"""Linux delays an acknowledgement by 40 ms at least, a broker without Nagle sends two messages within one."""


@dataclass
class BrokerFigures:
    """What was measured at a broker."""

    address: Address
    loopback: bool = False
    kind: str = ""
    """What it says of itself, such as "mosquitto version 2.0.11"; not every broker does."""
    round_trips_ms: list[float] = field(default_factory=list)
    """A request's bytes, published and received again over another connection."""
    gaps_ms: list[float] = field(default_factory=list)
    """Between the arrivals of two small messages that were published in a row."""
    delivers: bool = True
    delivers_long: bool | None = None
    """Whether the longest message comes back; None where that was not tried."""
    ip: str | None = None

    @property
    def place(self) -> str:
        """Where the broker's settings are."""
        return "this machine" if self.loopback else self.address.host


class _Ear:
    """Notes when messages arrive on the diagnosis's own topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.times: list[float] = []
        self.version = ""
        self.came = asyncio.Event()

    def hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self.topic and payload:  # what is empty is our will
            self.times.append(time.perf_counter())
            self.came.set()
        elif topic == _VERSION:
            self.version = payload[:80].decode("utf-8", "replace")

    async def next(self, count: int) -> list[float]:
        """The arrival times of the next `count` messages; TimeoutError when they do not come."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.times) < count:
                self.came.clear()
                await self.came.wait()
        times, self.times = self.times, []
        return times


async def measure(address: Address, topics: Topics) -> BrokerFigures:
    """Connect twice, as a hub and a worker would, and measure between them; BrokerError when that fails.

    Takes some 5 seconds at worst, once connected.
    """
    figures = BrokerFigures(address, await is_loopback(address))
    identity = secrets.token_hex(6)
    ear = _Ear(topics.doctor(identity))
    # With a will as theirs, which tells whether the broker takes retained messages at QoS 1.
    mouth = Connection(address, f"halo-doctor-{identity}-out", lambda *message: None, will_clears=ear.topic)
    ears = Connection(address, f"halo-doctor-{identity}-in", ear.hear, topics={ear.topic: 0})
    async with running(mouth.run(), ears.run()):
        await mouth.wait_up()
        await ears.wait_up()
        with contextlib.suppress(BrokerError):  # not everyone may know
            await ears.subscribe(_VERSION, 0)
        await asyncio.sleep(_VERSION_S)
        figures.kind = clean(ear.version)
        if ears.socket is not None:
            figures.ip = ears.socket.getpeername()[0]
        try:
            await _round_trips(mouth, ear, figures)
            await _gaps(mouth, ears, ear, figures)
            await _long(mouth, ears, ear, figures)
        except TimeoutError:
            if mouth.dropped or mouth.lives + ears.lives > 2 or not ears.is_up:
                raise BrokerError(f"The broker at {address} was lost while it was examined.") from None
            figures.delivers = bool(figures.round_trips_ms)
    return figures


async def _round_trips(mouth: Connection, ear: _Ear, figures: BrokerFigures) -> None:
    end = time.perf_counter() + _LIMIT_S
    while len(figures.round_trips_ms) < _ROUNDS and time.perf_counter() < end:
        start = time.perf_counter()
        mouth.send(ear.topic, bytes(_PAYLOAD))
        (arrived,) = await ear.next(1)
        figures.round_trips_ms.append(1000 * (arrived - start))


async def _gaps(mouth: Connection, ears: Connection, ear: _Ear, figures: BrokerFigures) -> None:
    end = time.perf_counter() + _LIMIT_S
    while len(figures.gaps_ms) < _PAIRS and time.perf_counter() < end:
        # As in a conversation, where the system delays its acknowledgements: Nagle's algorithm waits for one.
        if ears.socket is not None:
            ears.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        mouth.send(ear.topic, b"1")
        mouth.send(ear.topic, b"2")
        first, second = await ear.next(2)
        figures.gaps_ms.append(1000 * (second - first))


async def _long(mouth: Connection, ears: Connection, ear: _Ear, figures: BrokerFigures) -> None:
    """Comes last: a broker may end the connection over it."""
    mouth.send(ear.topic, bytes(_LONG))
    try:
        await ear.next(1)
    except TimeoutError:
        if not ears.is_up or ears.lives > 1:
            raise
        figures.delivers_long = False
    else:
        figures.delivers_long = True


async def examine_broker(address: Address, topics: Topics) -> tuple[list[Finding], BrokerFigures | None]:
    """All findings about a broker; the figures are None when it cannot be reached."""
    try:
        figures = await measure(address, topics)
    except BrokerError as error:
        return [unreachable(address, error)], None
    checks: tuple[Callable[[BrokerFigures], Finding], ...] = (round_trip, nagle, length, security)
    return [check(figures) for check in checks], figures


@named("broker")
def unreachable(address: Address, error: BrokerError) -> Finding:
    """The broker cannot be used at all."""
    knock = f"import socket; socket.create_connection(({address.host!r}, {address.port}), 3)"
    return bad(
        str(error),
        "without a broker the devices of a cell do not find one another",
        f"# on {address.host}: is it running, and what does it say?",
        "sudo systemctl restart mosquitto; sudo journalctl -u mosquitto -n 20",
        "# from here: does the port answer?",
        f"python3 -c {shlex.quote(knock)}",
    )


@named("broker")
def round_trip(figures: BrokerFigures) -> Finding:
    """Whether messages arrive, and how long they take."""
    where = f"{figures.kind or 'the broker'} at {figures.address}"
    if not figures.delivers:
        return bad(
            f"{where} accepts messages, and delivers none of them",
            "it refuses this user the topics below halo/, as an access list does (or messages so long: mosquitto with "
            f"a message_size_limit below {_PAYLOAD})",
            f"# on {figures.place}, in the access list (acl_file) of the broker:",
            "printf 'user NAME\\ntopic readwrite halo/#\\n' | sudo tee -a /etc/mosquitto/halo.acl",
            "sudo systemctl restart mosquitto",
        )
    times = figures.round_trips_ms
    middle, stalls = median(times), sum(ms > _STALL_MS for ms in times)
    measured = (
        f"{where}: {len(times)} messages of {_PAYLOAD} bytes come back in {middle:.1f} ms, {max(times):.0f} at most"
    )
    if middle > _SLOW_MS:
        return warn(
            measured,
            f"a token of TinyLlama waits {_SYNCS} times for at least that: {_SYNCS * middle / 1000:.1f} s a token",
            "# run the broker on the hub, or near it; use a cable or 5 GHz; and look at the way there:",
            f"ping -c 20 {shlex.quote(figures.address.host)}",
        )
    if stalls:
        return warn(
            f"{measured}; {stalls} of them took over {_STALL_MS:.0f} ms",
            "so long takes TCP to repeat a lost packet, or a dozing Wi-Fi device to wake up: the token waits for it",
            f"ping -c 100 -i 0.2 {shlex.quote(figures.address.host)}   # loss, and how it varies",
        )
    return ok(measured)


@named("broker-nagle")
def nagle(figures: BrokerFigures) -> Finding:
    """Whether the broker holds a small message back until the one before it is acknowledged."""
    if len(figures.gaps_ms) < 3:
        raise Unreadable("messages arrive too slowly to tell")
    gap = median(figures.gaps_ms)
    measured = f"two small messages in a row arrive {gap:.1f} ms apart"
    if gap < _HELD_BACK_MS:
        return ok(measured)
    return bad(
        measured,
        "the broker waits for an acknowledgement between them (Nagle's algorithm), so a hub gets its workers' answers "
        "one by one: with 4 workers on one machine a token's 44 syncs take 1.9 s instead of 0.06 s",
        *_in_settings(
            figures,
            "TCP_NODELAY among the settings of its listener",
            "",
            "echo 'set_tcp_nodelay true' | sudo tee -a /etc/mosquitto/conf.d/halo.conf",
        ),
    )


def _in_settings(figures: BrokerFigures, others: str, how: str, command: str) -> tuple[str, ...]:
    """What to change in mosquitto's configuration; of another broker, what to look for."""
    if figures.kind and "mosquitto" not in figures.kind:
        return (f"# {figures.kind}: look for {others}",)
    return (f"# on {figures.place} (mosquitto):{how}", command, "sudo systemctl restart mosquitto")


@named("broker-length")
def length(figures: BrokerFigures) -> Finding:
    """Whether the broker takes messages as long as HALO's."""
    if figures.delivers_long is None:
        raise Unreadable("no messages came back, so no long one was tried")
    if figures.delivers_long:
        return ok(f"a message of {_LONG} bytes comes back")
    return bad(
        f"a message of {_LONG} bytes does not come back within {_LIMIT_S:.0f} s",
        "a broker drops what is longer than its limit, and tells nobody: over MQTT the long messages of a prompt are "
        "lost, and the hub waits for their answers",
        *_in_settings(
            figures,
            "the largest packet or message among its settings: 1 MiB is good",
            " set these to 1048576, or take them out",
            "grep -rnE 'message_size_limit|max_packet_size' /etc/mosquitto/",
        ),
    )


@named("broker-security")
def security(figures: BrokerFigures) -> Finding:
    """Whether a broker that others can reach has TLS and a login."""
    address = figures.address
    if figures.loopback:
        return ok("reached on this machine only")
    missing = [what for what, there in (("no TLS", address.tls), ("no login", address.user is not None)) if not there]
    if not missing:
        return ok("TLS and a login")
    return warn(
        f"{address}: {' and '.join(missing)}",
        "whoever controls the broker, or the network on the way, controls the cell: can read what it computes, and can "
        "answer in a worker's place",
        f"# on {address.host}: docs/broker.md has the commands for a certificate, a login and an access list;",
        "# then on each device:",
        f"export HALO_BROKER=mqtts://halo:PASSWORD@{shlex.quote(address.host)}",
    )
