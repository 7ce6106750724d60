"""The hub's hold on its cell: the lease, kept against late wills and what a broker remembers of dead hubs, and given up
to a living one that took it after us."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Literal

from halo.cell.connection import Connection
from halo.cell.messages import BadDocument, Beat, Lease, OtherProtocol, decode, encode
from halo.cell.topics import Topics
from halo.cell.view import BEAT_PATIENCE_S, already_led
from halo.errors import CellError

_FOREIGN_BEATS_S = 3.0
"""A hub of another version of which nothing has been heard for so long is dead."""


class LeaseHolder:
    """Made and used in the hub's loop; `failure` may be read from any thread."""

    def __init__(self, topics: Topics, left_behind: Callable[[], str], on_usurped: Callable[[Lease], None]) -> None:
        self.failure: CellError | None = None
        """Why this hub may not go on: another one leads the cell."""
        self.ignored = 0
        """Documents that were not valid leases."""
        self._topics = topics
        self._left_behind = left_behind
        self._on_usurped = on_usurped
        self._lease: Lease | None = None
        self._standing = False
        """The broker has shown us our own lease since we connected."""
        self._shown = asyncio.Event()
        self._over_ours: Literal["nothing", "rubbish", "foreign", "doubted"] = "nothing"
        """What stands where our lease should: what is none, one of another version, or `_doubted`."""
        self._foreign_at = 0.0
        """When a hub of another version was heard of last."""
        self._doubted: Lease | None = None
        """Another hub's lease, which the broker had when we connected: its hub may be dead."""
        self._doubted_at = 0.0
        self._rival: Lease | None = None
        """Another hub's lease that was there before ours."""

    @property
    def lease(self) -> Lease | None:
        """What is published; None: nothing yet, or no more."""
        return self._lease if self.failure is None else None

    @property
    def leads(self) -> bool:
        """Whether the cell is ours, and no lease stands there whose hub may live."""
        return self.lease is not None and self._over_ours not in ("foreign", "doubted")

    async def publish(self, connection: Connection, lease: Lease) -> None:
        """Take the cell. CellError if it is another's."""
        if self.failure is not None:
            raise self.failure
        if self._rival is not None:
            raise CellError(already_led(self._topics.cell, self._rival))
        self._lease = lease
        await connection.publish(self._topics.lease, encode(lease), retain=True)

    async def is_shown(self, connection: Connection) -> None:
        """Return when the broker has shown us our lease; BrokerError if it keeps it to itself, CellError if another hub
        has come meanwhile."""
        await connection.returns(self._shown, self._topics.lease)
        if self.failure is not None:
            raise self.failure

    async def put_back(self, connection: Connection) -> None:
        """Say again that the cell is ours, which every worker answers; not over a lease whose hub may live (see
        `beat`)."""
        if (lease := self.lease) is not None and self.leads:
            await connection.publish(self._topics.lease, encode(lease), retain=True)

    def reconnected(self) -> None:
        """The broker may have another hub's lease now."""
        self._standing = False

    async def clear(self, connection: Connection) -> None:
        """Leave the cell to others, unless it is another's already."""
        leads, self._lease = self.leads, None  # from here on it is not put back
        if leads:
            await connection.publish(self._topics.lease, b"", retain=True)

    def beat(self, connection: Connection) -> bool:
        """Say that we are alive; and say our lease again where another thing stands there that nobody alive has
        written, for who comes later. Returns whether it was said again."""
        if (lease := self.lease) is None:
            return False
        connection.send(self._topics.beat, encode(Beat(session=lease.session)))
        if self._over_ours == "nothing" or self._may_live():
            return False
        self._over_ours = "nothing"
        connection.send(self._topics.lease, encode(lease), retain=True)
        return True

    def _may_live(self) -> bool:
        """Whether the hub whose lease stands over ours may yet be heard of."""
        if self._over_ours == "foreign":
            return time.monotonic() <= self._foreign_at + _FOREIGN_BEATS_S
        return self._over_ours == "doubted" and time.monotonic() <= self._doubted_at + BEAT_PATIENCE_S

    def hear_beat(self, payload: bytes, retained: bool) -> None:
        """A heartbeat, mostly our own. With a living hub of another version we do not quarrel."""
        if retained:
            return
        try:
            session = decode(Beat, payload).session
        except OtherProtocol:
            self._foreign_at = time.monotonic()
        except BadDocument:
            pass
        else:
            doubted = self._doubted if self._over_ours == "doubted" else None
            if self.lease is not None and doubted is not None and doubted.session == session:
                self._give_up(doubted)

    def hear(self, connection: Connection, payload: bytes, retained: bool) -> None:
        """What stands on the lease's topic."""
        if (own := self.lease) is None:
            self._hear_rival(payload)
            return
        if not payload:
            self._over_ours = "nothing"
            connection.send(self._topics.lease, encode(own), retain=True)
            return
        try:
            lease = decode(Lease, payload)
        except OtherProtocol:
            self.ignored += 1
            self._over_ours, self._foreign_at = "foreign", time.monotonic()
            return
        except BadDocument:
            self.ignored += 1
            self._over_ours = "rubbish"
            return
        waits, self._over_ours = self._over_ours == "doubted", "nothing"
        if lease.session == own.session:
            self._standing = True
            self._shown.set()
        elif lease.session == self._left_behind():
            pass  # ours follows
        elif retained:
            self._over_ours, self._doubted, self._doubted_at = "doubted", lease, time.monotonic()
        elif self._standing or waits:  # else ours follows, and the other one gives up
            self._give_up(lease)

    def _give_up(self, lease: Lease) -> None:
        self.failure = CellError(already_led(self._topics.cell, lease))
        self._shown.set()
        self._on_usurped(lease)

    def _hear_rival(self, payload: bytes) -> None:
        """Before our own is published: had we published it, the other hub would have given up for us, and we for it."""
        with contextlib.suppress(BadDocument):
            lease = decode(Lease, payload) if payload else None
            self._rival = None if lease is None or lease.session == self._left_behind() else lease
