"""A look at a cell from outside, that changes nothing in it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn

from halo.cell.address import Address
from halo.cell.connection import Connection
from halo.cell.messages import BadDocument, Beat, Lease, Link, Links, OtherProtocol, Work, decode
from halo.cell.roster import Roster
from halo.cell.topics import Topics
from halo.errors import BrokerError, CellError

BEAT_PATIENCE_S = 3.0
"""A lease whose holder has not been heard for so long may be taken over."""
_INSIST_S = 0.5
_RETAINED_S = 0.1
_LAST_TIME = 2.0**40  # a document may carry any number; localtime does not take any


@dataclass
class View:
    """What is known of a cell."""

    lease: Lease | None = None
    beating: bool = False
    foreign_hub: str | None = None
    """Why the lease cannot be read: another version of the protocol."""
    roster: Roster = field(default_factory=Roster)
    links: Links | None = None
    connected: bool = True
    """Whether the broker is there."""

    def link(self, name: str) -> Link | None:
        """How the hub reaches this worker, where it has said so."""
        told = self._told()
        return None if told is None else next((link for link in told.links if link.name == name), None)

    def work(self) -> dict[str, Work]:
        """What each device has done, by name, the hub first, where that has said so."""
        told = self._told()
        return {} if told is None else {work.name: work for work in told.work}

    def _told(self) -> Links | None:
        return (
            None if self.lease is None or self.links is None or self.links.session != self.lease.session else self.links
        )


async def look(address: Address, topics: Topics, beat_s: float = BEAT_PATIENCE_S, *, links: bool = False) -> View:
    """Read the retained documents and, where there is a lease, wait up to `beat_s` for its heartbeat.

    With `links` wait as long for what the hub says of its links, which it does right after.
    """
    ear = _Ear(topics)
    connection = Connection(address, f"halo-look-{secrets.token_hex(6)}", ear.hear, topics=ear.wanted)
    async with running(connection.run()):
        await connection.wait_up()
        await _settle(connection, ear, beat_s, links)
    ear.view.beating = ear.beat.is_set()
    return ear.view


async def follow(address: Address, topics: Topics, show: Callable[[View], None], every_s: float = 1.0) -> NoReturn:
    """Show the cell again and again until cancelled; BrokerError when the broker is not there at the start.

    Later outages are shown, not raised. An OSError of `show` is.
    """
    ear = _Ear(topics)

    async def begin_anew() -> None:
        """What was cleared while we were away would never be heard of: let the broker tell all again."""
        ear.forget()
        for topic, qos in ear.wanted.items():
            await connection.subscribe(topic, qos)

    client_id = f"halo-look-{secrets.token_hex(6)}"
    connection = Connection(address, client_id, ear.hear, topics=ear.wanted, on_up=begin_anew)
    async with running(connection.run()):
        await connection.wait_up()
        await _settle(connection, ear, 1.5 * every_s, links=True)
        while True:
            ear.look_at_clock(connection.is_up)
            try:
                show(ear.view)
            except OSError as error:
                failure = error  # raised below: the group would wrap it
                break
            await asyncio.sleep(every_s)
    raise failure


async def _settle(connection: Connection, ear: _Ear, beat_s: float, links: bool) -> None:
    # The broker answers in order: what it retains has arrived before the answer to a second subscription.
    await connection.subscribe(ear.topics.lease, 1)
    await asyncio.sleep(_RETAINED_S)
    if ear.view.lease is not None or ear.view.foreign_hub is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await ear.beat.wait()
                if links:
                    await ear.linked.wait()


class _Ear:
    """Takes in what is said in a cell."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.view = View()
        # Profiles at QoS 0: of what has a higher one mosquitto queues a thousand for each client, and drops the rest.
        self.wanted = {topics.lease: 1, topics.all_profiles: 0, topics.beat: 0, topics.links: 0}
        self.beat = asyncio.Event()
        self.linked = asyncio.Event()
        self._beat_at = self._linked_at = -math.inf

    def hear(self, topic: str, payload: bytes, retained: bool) -> None:
        view, now = self.view, time.monotonic()
        if topic == self.topics.lease:
            _hear_lease(view, payload)
        elif retained and topic in (self.topics.beat, self.topics.links):
            pass  # nobody retains these: it is no sign of life
        elif topic == self.topics.beat:
            if _beats(view, payload):
                self._beat_at = now
                self.beat.set()
        elif topic == self.topics.links:
            with contextlib.suppress(BadDocument):
                view.links = decode(Links, payload)
                self._linked_at = now
                self.linked.set()
        elif name := self.topics.profile_owner(topic):
            view.roster.hear(name, payload)

    def forget(self) -> None:
        """Know nothing."""
        self.view = View()

    def look_at_clock(self, connected: bool) -> None:
        """Let go what has not been said again for too long."""
        now, view = time.monotonic(), self.view
        view.connected = connected
        view.beating = connected and now - self._beat_at < BEAT_PATIENCE_S
        if now - self._linked_at > BEAT_PATIENCE_S:
            view.links = None


async def check_free(address: Address, topics: Topics) -> Lease | None:
    """Raise a CellError when the cell has a living hub; else return the lease that a dead one left behind."""
    view = await look(address, topics)
    if view.foreign_hub is not None and view.beating:
        raise CellError(
            f"The cell {topics.cell!r} has a hub of another version: {view.foreign_hub}. Until then wait until it has "
            "finished, or use another cell for this hub and its workers: --cell NAME."
        )
    if view.lease is not None and view.beating:
        raise CellError(already_led(topics.cell, view.lease))
    return view.lease


def already_led(cell: str, lease: Lease) -> str:
    """The text for a second hub."""
    since = time.strftime("%H:%M:%S", time.localtime(min(lease.since, _LAST_TIME)))
    return (
        f"The cell {cell!r} already has a hub: {lease.hub}, since {since}, with model {lease.model.name!r}. "
        "A cell has one hub at a time: wait until it has finished, or use another cell for "
        "this hub and its workers (--cell NAME)."
    )


@contextlib.asynccontextmanager
async def running(*works: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run the works beside the body, and end them with it; the first of HALO's errors comes out unwrapped."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(work) for work in works}
            try:
                yield
            finally:
                await _end(tasks)
    except BaseExceptionGroup as errors:
        known = errors.subgroup((BrokerError, CellError))
        while isinstance(known, BaseExceptionGroup):
            known = known.exceptions[0]  # type: ignore[assignment]
        if known is None:
            raise
        raise known from None


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel until they are gone: below Python 3.12 `wait_for`, on which aiomqtt stands, can swallow a cancellation."""
    cancelled: asyncio.CancelledError | None = None
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=_INSIST_S)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _beats(view: View, payload: bytes) -> bool:
    """Whether this is a heartbeat; of the lease's version, whichever that is."""
    try:
        decode(Beat, payload)
    except OtherProtocol:
        return view.foreign_hub is not None
    except BadDocument:
        return False
    return True


def _hear_lease(view: View, payload: bytes) -> None:
    view.lease, view.foreign_hub, view.roster.session = None, None, ""
    try:
        view.lease = decode(Lease, payload) if payload else None
        view.roster.session = view.lease.session if view.lease is not None else ""
    except OtherProtocol as error:
        view.foreign_hub = f"{error.hub}: {error}" if error.hub else str(error)
    except BadDocument:
        pass
