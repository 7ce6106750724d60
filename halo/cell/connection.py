"""One connection to the broker that comes back by itself, with its subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from halo.cell.address import Address
from halo.cell.explain import BrokenOff, Denied, code_of, explain, is_final, reason
from halo.cell.messages import MAX_DOCUMENT
from halo.errors import BrokerError

Handler = Callable[[str, bytes, bool], None]
"""Called in the loop for each message: topic, payload, whether it was retained before we subscribed."""

FIRST_ATTEMPTS_S = 5.0
"""How long a first connection is tried before the user is told; later losses are repaired for ever."""
_ANSWER_S = 3.0
_GOODBYE_S = 0.3
BACK_OFF_S = (0.1, 5.0)
"""Between two attempts: at first, and at most."""
RETURNS_S = 5.0
"""What we publish, and read, comes back within this time, also where packets are lost."""
_NEWEST = aiomqtt.ProtocolVersion.V5
_OLDER: set[tuple[str, int]] = set()
"""Host and port of brokers that this process has had to speak MQTT 3.1.1 to: some say nothing to MQTT 5 for ever."""
_LARGEST_PACKET = 2 * MAX_DOCUMENT
"""Bytes. An MQTT 5 broker keeps from us what is larger; of MQTT 3.1.1 paho would take in 256 MiB first."""
_STANDING: dict[object, Address] = {}
"""Of this process, of any of its threads: one entry for each connection."""
_NO_SUCH_VERSION = (1, 132)  # CONNACK codes of MQTT 3.1.1 and 5
_REFUSED = 128  # codes of SUBACK and PUBACK from here on
_LOGGER = logging.getLogger("halo.mqtt")
_LOGGER.addHandler(logging.NullHandler())  # paho's lines are for who asks for them, not for the terminal
_NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Connection:
    """A broker connection; `run` keeps it up until it is cancelled, and then disconnects in order.

    Every attempt uses a new aiomqtt client: that library neither reconnects nor subscribes again.
    """

    def __init__(
        self,
        address: Address,
        client_id: str,
        on_message: Handler,
        *,
        topics: Mapping[str, int] | None = None,
        on_up: Callable[[], Awaitable[None]] | None = None,
        will_clears: str | None = None,
        keepalive_s: int = 5,
        patience_s: float = FIRST_ATTEMPTS_S,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.address = address
        self.dropped = 0
        """Messages that could not be sent (QoS 0 has no second chance) or whose handler failed."""
        self.lives = 0
        """How often it has been made: twice means one reconnection."""
        self._client_id = client_id
        self._on_message = on_message
        self._topics = dict(topics or {})
        self._on_up = on_up
        self._will = aiomqtt.Will(will_clears, b"", qos=1, retain=True) if will_clears else None
        self._keepalive_s = keepalive_s
        self._patience_s = patience_s
        self._log = log
        self._place = address.host, address.port
        self._version = _NEWEST
        self._tls = ssl.create_default_context() if address.tls else None
        self._client: aiomqtt.Client | None = None
        self._up = asyncio.Event()
        self._let_in = False
        """A broker has taken our version of MQTT."""
        self._stood = False
        self._publishing = asyncio.Lock()
        self._denied = False
        """The broker has refused what was published last."""

    @property
    def is_up(self) -> bool:
        """Whether messages can be sent now."""
        return self._client is not None

    @property
    def socket(self) -> socket.socket | None:
        """The socket (or TLS socket) of a standing connection, to look at and to set options."""
        found = None if self._client is None else self._client._client.socket()
        return found if isinstance(found, socket.socket) else None

    async def wait_up(self) -> None:
        """Return when the connection stands. (If the first one never does, `run` raises.)"""
        await self._up.wait()

    async def run(self) -> NoReturn:
        """Connect and stay connected; BrokerError if the first connection cannot be made in `patience_s`."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience_s
        delay, told = BACK_OFF_S[0], ""
        if self._place in _OLDER:
            self._version = aiomqtt.ProtocolVersion.V311
        while True:
            try:
                await self._one_life()
            except (aiomqtt.MqttError, BrokerError, OSError) as error:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError from error  # disconnecting failed, which must not keep us
                if self._up.is_set():
                    self._log(f"lost the broker at {self.address} ({reason(error)}); trying to reconnect")
                    delay, told = BACK_OFF_S[0], ""
                elif not self._let_in and self._try_other_version(error):
                    continue
                elif not self._stood and (loop.time() + delay > give_up or is_final(error)):
                    raise (
                        error if isinstance(error, BrokerError) else BrokerError(explain_entry(self.address, error))
                    ) from None
                elif is_final(error) and told != (told := explain_entry(self.address, error)):
                    self._log(f"{told} Trying again all the same")
            finally:
                self._client = None
                self._up.clear()
            await asyncio.sleep(delay)
            delay = min(2 * delay, BACK_OFF_S[1] if self._stood else 1.0)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 0, now or never. Call it in the loop; the order of calls is kept."""
        if self._client is None:
            self.dropped += 1
            return
        # Not through aiomqtt's own publish: it waits for each message to be written, which takes two tasks a
        # message and, with four workers, a third of the time of a sync.
        if self._client._client.publish(topic, payload, 0, retain).rc != MQTT_ERR_SUCCESS:
            self.dropped += 1

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1 and wait for the broker's word; BrokerError when there is none, or it refuses the topic.

        Only MQTT 5 has a word for that. In 3.1.1 the message is accepted, and goes nowhere.
        """
        async with self._publishing:  # one at a time, so that it is known what was refused
            client = self._client
            if client is None:
                raise BrokerError(f"The broker at {self.address} is not connected just now. Try again in a moment.")
            self._denied = False
            try:
                await client.publish(topic, payload, 1, retain)
            except aiomqtt.MqttError as error:
                raise BrokerError(explain(self.address, error)) from None
            if self._denied:
                raise Denied(self.address, f"it refuses what we publish at {topic}")

    async def returns(self, shown: asyncio.Event, topic: str) -> None:
        """Wait until the broker has `shown` us what we have published at a topic that we read; Denied if it does not.

        An access list may let messages be sent and go nowhere, which MQTT 3.1.1 has no word for, and MQTT 5 not always.
        """
        life = self.lives
        try:
            async with asyncio.timeout(RETURNS_S):
                await shown.wait()
        except TimeoutError:
            if self.is_up and life == self.lives:
                raise Denied(self.address, f"nothing comes back of what we publish at {topic}") from None

    async def subscribe(self, topic: str, qos: int) -> None:
        """Subscribe now (if connected) and after every reconnection; BrokerError if the broker refuses the topic."""
        self._topics[topic] = qos
        if self._client is not None:
            with contextlib.suppress(aiomqtt.MqttError):  # the next life subscribes to it
                codes = await self._client.subscribe(topic, qos)
                try:
                    self._check(codes, [topic])
                except Denied:
                    del self._topics[topic]
                    raise

    async def unsubscribe(self, topic: str) -> None:
        """The opposite of `subscribe`."""
        self._topics.pop(topic, None)
        if self._client is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._client.unsubscribe(topic)

    async def _one_life(self) -> None:
        await self._knock()
        client = self._new_client()
        try:
            async with client:
                try:
                    await self._use(client)
                finally:
                    client.timeout = _GOODBYE_S
        finally:
            # One that failed to connect would otherwise stay, and come to life beside the next one.
            client._client._sock_close()
            _take_note(client._connected, client._disconnected)

    async def _use(self, client: aiomqtt.Client) -> None:
        self._let_in = True
        if self._version is aiomqtt.ProtocolVersion.V311:
            _OLDER.add(self._place)
        if self._topics:
            codes = await _while_it_stands(client, client.subscribe(list(self._topics.items())))
            self._check(codes, list(self._topics))
        self._client = client
        self.lives += 1
        if self._on_up is not None:
            await self._on_up()
        if self.lives > 1:
            self._log(f"connected to the broker at {self.address} again")
        self._stood = True
        self._up.set()
        with standing(self.address):
            async for _ in client.messages:  # none comes this way (see _queue); it ends with the connection
                pass

    async def _knock(self) -> None:
        """See whether anything listens, and shake hands where there is TLS: what the connecting thread of paho does
        cannot be cancelled, and would keep us from ending."""
        async with asyncio.timeout(_ANSWER_S):
            _, writer = await asyncio.open_connection(self.address.host, self.address.port, ssl=self._tls)
        writer.transport.abort()

    def _new_client(self) -> aiomqtt.Client:
        modern = self._version is aiomqtt.ProtocolVersion.V5
        client = aiomqtt.Client(
            self.address.host,
            self.address.port,
            username=self.address.user,
            password=self.address.password,
            identifier=self._client_id,
            queue_type=_queue(self._deliver),
            protocol=self._version,
            clean_session=None if modern else True,
            clean_start=True if modern else MQTT_CLEAN_START_FIRST_ONLY,  # paho's word for "not given"
            properties=_limits() if modern else None,
            will=self._will,
            timeout=_ANSWER_S,
            keepalive=self._keepalive_s,
            tls_context=self._tls,
            socket_options=_NODELAY,
            logger=_LOGGER,
        )
        client.pending_calls_threshold = 10_000  # it is only the level of a warning
        client._client.on_publish = self._listening(client._client.on_publish)
        client._client.on_disconnect = _noticing(client, client._client.on_disconnect)
        return client

    def _check(self, codes: Iterable[Any], topics: list[str]) -> None:
        for code, topic in zip(codes, topics, strict=False):
            if _value(code) >= _REFUSED:
                raise Denied(self.address, f"it refuses to show us {topic}")

    def _listening(self, inner: Any) -> Callable[..., None]:
        """aiomqtt does not look whether the broker has taken what it acknowledges."""

        def on_publish(client: Any, userdata: Any, mid: int, code: Any, properties: Any) -> None:
            self._denied = self._denied or _value(code) >= _REFUSED
            inner(client, userdata, mid, code, properties)

        return on_publish

    def _deliver(self, message: aiomqtt.Message) -> None:
        payload = message.payload
        try:
            self._on_message(message.topic.value, payload if isinstance(payload, bytes) else b"", message.retain)
        except Exception as error:  # a message must never end the connection
            self.dropped += 1
            self._log(f"a message on {message.topic.value} could not be handled: {error!r}")

    def _try_other_version(self, error: Exception) -> bool:
        """Fall back to MQTT 3.1.1 at once where the broker says or seems to say that it has no MQTT 5.

        Where that fails, too, the next attempt is with MQTT 5 again, but for a broker that is remembered and only
        says nothing.
        """
        refused = code_of(error) in _NO_SUCH_VERSION or isinstance(error, BrokenOff)
        if self._version is aiomqtt.ProtocolVersion.V311:
            if refused or self._place not in _OLDER:
                _OLDER.discard(self._place)
                self._version = _NEWEST
            return False
        unanswered = isinstance(error, aiomqtt.MqttError) and str(error) == "Operation timed out"
        if not refused and not unanswered:
            return False
        self._version = aiomqtt.ProtocolVersion.V311
        return True


@contextlib.contextmanager
def standing(address: Address) -> Iterator[None]:
    """Of each connection to a broker, while it stands: who cannot make another one is told of them."""
    token = object()
    _STANDING[token] = address
    try:
        yield
    finally:
        del _STANDING[token]


def explain_entry(address: Address, error: BaseException) -> str:
    """What a user is told when a connection cannot be made."""
    return explain(address, error, list(_STANDING.values()).count(address))


def _noticing(client: aiomqtt.Client, inner: Any) -> Callable[..., None]:
    """aiomqtt goes on to wait for an answer where the connection ends before there is one."""

    def on_disconnect(*arguments: Any) -> None:
        if not client._connected.done():
            client._connected.set_exception(BrokenOff("it has closed the connection"))
        inner(*arguments)

    return on_disconnect


async def _while_it_stands(client: aiomqtt.Client, work: Awaitable[Any]) -> Any:
    """The result of what waits for the broker; aiomqtt goes on to wait where the connection ends meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, client._disconnected), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise BrokenOff("it has closed the connection")
        return task.result()
    finally:
        task.cancel()


def _limits() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = _LARGEST_PACKET
    return properties


def _value(code: Any) -> int:
    """Of an MQTT 5 reason code, or of an MQTT 3.1.1 one, which is a plain number."""
    return int(getattr(code, "value", code))


def _queue(deliver: Callable[[aiomqtt.Message], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    class StraightThrough(asyncio.Queue[aiomqtt.Message]):
        """Hands each message over where it arrives, which saves a task and two turns of the loop for each."""

        def put_nowait(self, item: aiomqtt.Message) -> None:
            deliver(item)

    return StraightThrough


def _take_note(*futures: asyncio.Future[None]) -> None:
    """Look at the errors that aiomqtt has put in there, which asyncio would complain about otherwise."""
    for future in futures:
        if future.done() and not future.cancelled():
            future.exception()
