"""The hub's end of the data plane over MQTT: publishes what a relay posts, delivers what comes for it."""

from __future__ import annotations

import asyncio
import contextlib

from halo.cell.address import Address
from halo.cell.connection import Connection
from halo.cell.native import Post, Relay
from halo.cell.topics import Topics

_QOS = 0  # QoS 1 is measured 3 to 6 times worse under loss; the relay repeats what is missing


class HubExchange:
    """A connection of its own for the binary messages of one session at a time. Made and used in the loop."""

    def __init__(self, address: Address, topics: Topics, client_id: str) -> None:
        self.ignored = 0
        """Messages of foreign sessions and of devices that do not take part."""
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._session = ""
        self._relay: Relay | None = None
        self._index: dict[str, int] = {}
        self.connection = Connection(address, client_id, self._receive)

    async def listen(self, session: str) -> None:
        """Leave the session so far and subscribe to the partials of another one."""
        self._relay = None
        if self._session:
            await self.connection.unsubscribe(self._topics.all_partials(self._session))
        self._session = session
        await self.connection.subscribe(self._topics.all_partials(session), _QOS)

    def poster(self, names: list[str]) -> Post:
        """What a relay calls, from the thread that runs `forward`, to send messages to these workers."""
        topics = [self._topics.request(name) for name in names]

        def publish(batch: list[tuple[int, bytes]]) -> None:
            for worker, message in batch:
                self.connection.send(topics[worker], message)

        def post(batch: list[tuple[int, bytes]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: so is the cell, and forward is cancelled
                self._loop.call_soon_threadsafe(publish, batch)

        return post

    def bind(self, relay: Relay, names: list[str]) -> None:
        """Deliver the partials of these workers to the relay from now on."""
        self._index = {name: number for number, name in enumerate(names)}
        self._relay = relay

    def _receive(self, topic: str, payload: bytes, retained: bool) -> None:
        sender = self._topics.partial_sender(topic, self._session)
        index = None if sender is None else self._index.get(sender)
        if index is None or self._relay is None or retained:
            self.ignored += 1
            return
        self._relay.deliver(index, payload)
