"""One lane: a connection to the broker that carries only data, at QoS 0, and comes back by itself.

It speaks MQTT with a codec of its own (`halo.exchange.codec`), because a general client library costs more than the
whole rest of a sync: docs/benchmarks.md has the figures. Control documents go over `halo.cell.connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import NoReturn, cast

from halo.cell.address import Address
from halo.cell.connection import BACK_OFF_S, FIRST_ATTEMPTS_S, explain_entry, standing
from halo.cell.explain import BrokenOff, Denied, is_final, reason
from halo.errors import BrokerError
from halo.exchange import codec

Handler = Callable[[int, str, bytes], None]
"""Called in the loop for each message: number of the lane, topic, payload."""

_ANSWER_S = 3.0
_KEEPALIVE_S = 5
_MOST_WAITING = 256 * 1024
"""Bytes that may wait for a stalled connection; what comes on top is dropped, for it would come too late anyway."""
_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux has it
_LOSS = 3
"""TCP's states (tcpi_ca_state): open, disorder, window reduced, recovery, loss. From 3 on it repairs a loss."""


class LoginRefused(ConnectionError):
    """The broker's CONNACK says no."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the broker answers with code {code}")
        self.rc = code


class Lane:
    """Made and used in the loop; `run` keeps it up until it is cancelled."""

    def __init__(
        self, address: Address, client_id: str, number: int, on_message: Handler, patience_s: float = FIRST_ATTEMPTS_S
    ) -> None:
        self.number = number
        self.dropped = 0
        """Messages that were not sent: it was down, or stalled for long."""
        self._address = address
        self._client_id = client_id
        self._on_message = on_message
        self._patience_s = patience_s
        self._tls = ssl.create_default_context() if address.tls else None
        self._topics: set[str] = set()
        self._wire: _Wire | None = None
        self._up = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether messages can be sent now."""
        return self._wire is not None

    async def wait_up(self) -> None:
        """Return when the connection stands and has its subscriptions."""
        await self._up.wait()

    async def run(self) -> NoReturn:
        """Connect and stay connected; BrokerError if the first connection cannot be made in `patience_s`."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience_s
        delay, lived = BACK_OFF_S[0], False
        while True:
            try:
                await self._one_life()
            except (OSError, Denied) as error:  # TimeoutError is one, too
                if not (lived or self._up.is_set()) and (loop.time() + delay > give_up or is_final(error)):
                    raise BrokerError(explain_entry(self._address, error)) from None
            finally:
                lived, delay = lived or self._up.is_set(), BACK_OFF_S[0] if self._up.is_set() else delay
                self._wire = None
                self._up.clear()
            await asyncio.sleep(delay)
            delay = min(2 * delay, BACK_OFF_S[1] if lived else 1.0)

    def send(self, packets: bytes) -> bool:
        """Send packets now, or drop them and return False."""
        if self._wire is None or self._wire.waiting > _MOST_WAITING:
            self.dropped += 1
            return False
        self._wire.write(packets)
        return True

    def trouble(self) -> tuple[int, int]:
        """How badly off the connection is, to be compared: (state, segments that nobody has acknowledged).

        State 0: nothing is wrong. 1: TCP repairs a loss, which delays what follows. 2: it waits for a timeout (200 ms
        and more). 3: it is down. Only our own direction is known; what the broker sends is the broker's TCP.
        """
        return (3, 0) if self._wire is None else self._wire.trouble()

    def subscribe(self, topic: str) -> None:
        """Subscribe now (if connected) and after every reconnection."""
        self._topics.add(topic)
        if self._wire is not None:
            self._wire.write(codec.subscribe([topic], 1))

    def unsubscribe(self, topic: str) -> None:
        """The opposite of `subscribe`."""
        self._topics.discard(topic)
        if self._wire is not None:
            self._wire.write(codec.unsubscribe(topic, 1))

    async def _one_life(self) -> None:
        """One connection, from its making to its end, which is an OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_ANSWER_S):
            _, wire = await loop.create_connection(
                lambda: _Wire(lambda topic, payload: self._on_message(self.number, topic, payload)),
                self._address.host,
                self._address.port,
                ssl=self._tls,
            )
        try:
            await self._enter(wire)
            self._wire = wire
            self._up.set()
            with standing(self._address):
                await wire.stay(_KEEPALIVE_S)
        finally:
            wire.close()

    async def _enter(self, wire: _Wire) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                wire.write(codec.connect(self._client_id, self._address, _KEEPALIVE_S))
                code = (await wire.answer(codec.CONNACK))[1:2]
                if code != b"\0":
                    raise LoginRefused(code[0] if code else 255)
                if self._topics:
                    wire.write(codec.subscribe(self._topics, 1))
                    if codec.REFUSED in (await wire.answer(codec.SUBACK))[2:]:
                        raise Denied(self._address, f"it refuses to show us {min(self._topics)}")
        except LoginRefused:
            raise
        except OSError as error:
            raise BrokenOff(reason(error)) from error


class _Wire(asyncio.Protocol):
    """A connection's life: bytes in, packets out."""

    def __init__(self, deliver: Callable[[str, bytes], None]) -> None:
        self._deliver = deliver
        self._reader = codec.Reader()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._awaited = -1
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._end: asyncio.Future[Exception] = self._loop.create_future()
        self._heard = False

    @property
    def waiting(self) -> int:
        """Bytes that the socket has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # asyncio sets TCP_NODELAY
        self._socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            packets = self._reader.feed(data)
        except codec.NotMqtt as error:
            self._ended(error)
            return
        for kind, topic, payload in packets:
            if kind == codec.PUBLISH:
                self._deliver(topic, payload)
            elif kind == self._awaited and not self._answer.done():
                self._answer.set_result(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc or ConnectionResetError("it has closed the connection"))

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():  # asyncio complains of each write after
            self._transport.write(data)

    async def answer(self, kind: int) -> bytes:
        """Wait for a packet of this kind."""
        self._awaited, self._answer = kind, self._loop.create_future()
        await asyncio.wait((self._answer, self._end), return_when=asyncio.FIRST_COMPLETED)
        if self._end.done():
            raise self._end.result()
        return self._answer.result()

    async def stay(self, keepalive_s: float) -> NoReturn:
        """Ask for a sign of life when there is none; raises when the connection has ended, or says nothing."""
        while True:
            self._heard = False
            self.write(codec.PINGREQ)
            await asyncio.wait((self._end,), timeout=keepalive_s)
            if self._end.done():
                raise self._end.result()
            if not self._heard:
                raise TimeoutError("the broker does not answer")

    def trouble(self) -> tuple[int, int]:
        if _TCP_INFO is None or self._socket is None:
            return (0, self.waiting)
        info = b""
        with contextlib.suppress(OSError):  # it is being closed
            info = self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 28)
        if len(info) < 28:
            return (3, 0)
        unacknowledged: int = struct.unpack_from("=I", info, 24)[0]
        state = 2 if info[2] else 1 if info[1] >= _LOSS else 0
        return (state, unacknowledged)

    def close(self) -> None:
        """End it in order if that needs no waiting."""
        if self._transport is not None:
            if self.waiting:
                self._transport.abort()
            else:
                self._transport.write(codec.DISCONNECT)
                self._transport.close()

    def _ended(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_result(error if isinstance(error, OSError) else ConnectionError(str(error)))
