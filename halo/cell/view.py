"""A look at a cell from outside, that changes nothing in it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

from halo.cell.address import Address
from halo.cell.connection import Connection
from halo.cell.messages import BadDocument, Beat, Lease, OtherProtocol, decode
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


async def look(address: Address, topics: Topics, beat_s: float = BEAT_PATIENCE_S) -> View:
    """Read the retained documents and, where there is a lease, wait up to `beat_s` for its heartbeat."""
    view, beat = View(), asyncio.Event()

    def hear(topic: str, payload: bytes, retained: bool) -> None:
        if topic == topics.lease:
            _hear_lease(view, payload)
        elif topic == topics.beat:
            with contextlib.suppress(BadDocument):
                decode(Beat, payload)
                beat.set()
        elif name := topics.profile_owner(topic):
            view.roster.hear(name, payload)

    wanted = {topics.lease: 1, topics.beat: 1, topics.all_profiles: 1}
    connection = Connection(address, f"halo-look-{secrets.token_hex(6)}", hear, topics=wanted)
    async with running(connection.run()):
        await connection.wait_up()
        # The broker answers in order: what it retains has arrived before the answer to a second subscription.
        await connection.subscribe(topics.lease, 1)
        await asyncio.sleep(_RETAINED_S)
        if view.lease is not None or view.foreign_hub is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(beat_s):
                    await beat.wait()
    view.beating = beat.is_set()
    return view


async def check_free(address: Address, topics: Topics) -> Lease | None:
    """Raise a CellError when the cell has a living hub; else return the lease that a dead one left behind."""
    view = await look(address, topics)
    if view.foreign_hub is not None:
        raise CellError(
            f"The cell {topics.cell!r} has a hub that this program does not understand: {view.foreign_hub}. "
            "Bring both to the same version of HALO, or use another cell: --cell NAME."
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


def _hear_lease(view: View, payload: bytes) -> None:
    view.lease, view.foreign_hub = None, None
    try:
        view.lease = decode(Lease, payload) if payload else None
    except OtherProtocol as error:
        view.foreign_hub = str(error)
    except BadDocument:
        pass
