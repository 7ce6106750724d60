"""The data plane over MQTT, both ends: requests go out at the hub's and come in at a worker's, partials come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from halo.cell.address import Address
from halo.cell.native import NativeWorker, Relay
from halo.cell.topics import Topics
from halo.exchange import codec
from halo.exchange.lanes import LANES, Lanes, Route

_QUEUE = 64
"""Requests that may wait for the computing thread; more are not accepted, and the hub asks again."""


@dataclass
class _Way:
    """How the messages of one member go."""

    name: str
    route: Route


class HubExchange:
    """Carries the messages of one session, whose members come and go. Made and used in the loop."""

    def __init__(self, address: Address, topics: Topics, client_id: str, lanes: int = LANES) -> None:
        self.ignored = 0
        """Messages of foreign sessions and of devices that do not take part."""
        self.copies = 0
        """Requests that were sent over one more lane from the start."""
        self.lanes = Lanes(address, client_id, self._receive, count=lanes)
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._session = ""
        self._relay: Relay | None = None
        self._ways: dict[int, _Way] = {}
        self._index: dict[str, int] = {}

    @property
    def is_plain(self) -> bool:
        """One lane, and so nowhere else to go with what is late."""
        return len(self.lanes.lanes) == 1

    def listen(self, session: str, relay: Relay) -> None:
        """Subscribe to the partials of a session and deliver them to its relay."""
        self._session, self._relay = session, relay
        for number, lane in enumerate(self.lanes.lanes):
            lane.subscribe(self._topics.all_partials(session, number))

    def add(self, index: int, name: str, lanes: int) -> None:
        """The worker `name`, which has so many lanes, is the relay's member `index` from now on."""
        self._ways[index] = _Way(name, Route(self.lanes, min(lanes, len(self.lanes.lanes))))
        self._index[name] = index

    def remove(self, index: int) -> None:
        """Nobody is the member `index` any more: what is posted to it goes nowhere."""
        way = self._ways.pop(index, None)
        if way is not None and self._index.get(way.name) == index:
            del self._index[way.name]

    def post(self, batch: list[tuple[int, int, bytes]]) -> None:
        """What the relay calls, from any thread, to send messages to its members."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: so is the cell, and forward is cancelled
            self._loop.call_soon_threadsafe(self._publish, batch)

    def _publish(self, batch: list[tuple[int, int, bytes]]) -> None:
        packets: dict[int, list[bytes]] = {}
        for index, attempt, message in batch:
            if (way := self._ways.get(index)) is None:
                continue
            chosen, copies = way.route.choose(attempt)
            self.copies += 0 if attempt else len(chosen) - 1
            for lane in chosen:
                topic = self._topics.request(way.name, lane, copies)
                packets.setdefault(lane, []).append(codec.publish(topic, message))
        for lane, together in packets.items():
            self.lanes.lanes[lane].send(b"".join(together))

    def _receive(self, lane: int, topic: str, payload: bytes) -> None:
        sender = self._topics.partial_sender(topic, self._session)
        index = None if sender is None else self._index.get(sender)
        if index is None or self._relay is None:
            self.ignored += 1
            return
        if self._relay.deliver(index, payload):
            self._ways[index].route.was_needless()


class WorkerExchange:
    """Lets a native worker answer what comes. Made and used in the loop; the computing has a thread of its own."""

    def __init__(
        self,
        address: Address,
        topics: Topics,
        name: str,
        client_id: str,
        worker: NativeWorker,
        log: Callable[[str], None],
        patience_s: float,
    ) -> None:
        self.refused = 0
        """Requests that came while the queue was full."""
        self.lanes = Lanes(address, client_id, self._request, patience_s=patience_s)
        for number, lane in enumerate(self.lanes.lanes):
            lane.subscribe(topics.all_requests(name, number))
        self._topics = topics
        self._name = name
        self._worker = worker
        self._log = log
        self._session = ""
        self._among = 1
        self._turn = 0
        self._waiting = 0
        self._bench = ThreadPoolExecutor(1, "halo-compute")
        self._loop = asyncio.get_running_loop()

    def serve(self, session: str, lanes: int) -> None:
        """Answer to this session from now on (or to none: ""), whose hub has so many lanes."""
        self._session = session
        self._among = min(max(lanes, 1), len(self.lanes.lanes))

    async def on_bench(self, work: Callable[[], None]) -> None:
        """Do something in the computing thread, after the requests that wait there, which use the same state."""
        await self._loop.run_in_executor(self._bench, work)

    def close(self) -> None:
        """Compute no more."""
        self._bench.shutdown(wait=False, cancel_futures=True)

    def _request(self, lane: int, topic: str, message: bytes) -> None:
        if self._waiting >= _QUEUE:
            self.refused += 1
            return
        copies = min(self._topics.copies(topic), self._among)
        verdict, answer = self._worker.accept(message)
        if verdict == "answer":
            self._reply(answer, lane, copies)
        elif verdict == "compute":
            self._waiting += 1
            self._bench.submit(self._compute, message, self._session, lane, copies)

    def _compute(self, message: bytes, session: str, lane: int, copies: int) -> None:
        """In the computing thread."""
        reply = b""
        try:
            reply = self._worker.compute(message)
        except Exception as error:
            self._loop.call_soon_threadsafe(self._log, f"a request could not be computed: {error}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving
            self._loop.call_soon_threadsafe(self._computed, reply, session, lane, copies)

    def _computed(self, reply: bytes, session: str, lane: int, copies: int) -> None:
        self._waiting -= 1
        if reply and session == self._session:
            self._reply(reply, lane, copies)

    def _reply(self, reply: bytes, lane: int, copies: int) -> None:
        """Over the lane by which it was asked, which works at least in that direction, or over the best ones."""
        if not self._session:
            return
        if copies == 1:
            chosen = [self.lanes.one(lane, self._among)]
        else:
            chosen = self.lanes.best(copies, self._among, self._turn)
            self._turn += copies
        for number in chosen:
            topic = self._topics.partial(self._session, self._name, number)
            self.lanes.lanes[number].send(codec.publish(topic, reply))
