"""The hub's life in a cell: one lease, one session, and the members that come and go while it lasts."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from halo import __version__
from halo.cell.address import Address
from halo.cell.connection import BACK_OFF_S, Connection
from halo.cell.gathering import Gathering
from halo.cell.lease import LeaseHolder
from halo.cell.links import counted_link, link_of, work_of
from halo.cell.members import POLL_S, Members
from halo.cell.messages import Lease, Links, ModelId, Partials, Plan, Residency, encode
from halo.cell.native import Native
from halo.cell.news import crowd
from halo.cell.roster import Roster
from halo.cell.shards import HubShards
from halo.cell.topics import Topics
from halo.cell.view import check_free, running
from halo.errors import BrokerError, CellError
from halo.exchange.addresses import is_loopback
from halo.exchange.datagrams import HubDatagrams, Transport
from halo.exchange.lanes import LANES
from halo.exchange.mqtt import HubExchange

_BEAT_S = 1.0
_RETURN_S = 0.25
"""A device whose profile is cleared and back within this time only changed its connection."""
_RETURN_AFTER_OUTAGE_S = BACK_OFF_S[1] + 3.0
"""The same after we ourselves were cut off: the others have to find the broker again, too."""
_RECONNECT_S = 5.0
_USURPER_S = 0.2
_PLAIN_RE_REQUEST_S = 0.5
"""With one lane, a request that is sent again queues behind the first: only loss by the broker makes it useful."""


MakeShards = Callable[[str, Roster, Callable[[Plan], Awaitable[None]]], HubShards]
"""Of a session, its roster, and what publishes a plan."""


@dataclass(frozen=True)
class Offer:
    """What the hub runs, as its lease tells the workers."""

    hub: str
    model: ModelId
    n_ctx: int
    slots: int
    partials: Partials
    transport: Transport = "auto"
    residency: Residency = "full"


class HubSession:
    """Made and used in the hub's loop; `failure` and what `members` says so of may be used from any thread."""

    def __init__(
        self,
        address: Address,
        topics: Topics,
        offer: Offer,
        native: Native,
        log: Callable[[str], None],
        lanes: int = LANES,
        shards: MakeShards | None = None,
    ) -> None:
        """`shards` makes the one who tells workers what to hold, where they do not hold everything."""
        self.session = secrets.token_hex(8)
        self.roster = Roster(self.session)
        self.shards = None if shards is None else shards(self.session, self.roster, self._publish_plan)
        self.on_failure: Callable[[], None] = lambda: None
        """Called once when `failure` is set."""
        self.stats: Callable[[], dict[str, Any]] = dict
        """The engine's, once there is one."""
        self._topics = topics
        self._offer = offer
        self._log = log
        self._address = address
        self._left_behind = ""
        self._claimed = False
        """The broker is not ours alone."""
        self._told_crowd = False
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        """Set: the workers that go are leaving with us."""
        self._holder = LeaseHolder(topics, lambda: self._left_behind, self._usurped)
        identity = secrets.token_hex(6)
        self.exchange = HubExchange(address, topics, f"halo-{identity}-data", lanes)
        again_s = _PLAIN_RE_REQUEST_S if self.exchange.is_plain else None
        relay = native.Relay(int(self.session, 16), self.exchange.post, re_request_s=again_s)
        self.exchange.listen(self.session, relay)
        self._datagrams = HubDatagrams(native, offer.transport, loopback=is_loopback(address.host))
        self.members = Members(
            self.session, native, relay, self.exchange, self._datagrams, self.roster, log, shards=self.shards
        )
        plans = {} if self.shards is None else {topics.plan: 1}
        self._control = Connection(
            address,
            f"halo-{identity}-hub",
            self._hear,
            topics={topics.lease: 1, topics.beat: 0, topics.all_profiles: 1} | plans,
            on_up=self._on_up,
            will_clears=topics.lease,
            log=log,
        )

    @property
    def failure(self) -> CellError | None:
        """Why this hub may not go on: another one leads the cell."""
        return self._holder.failure

    async def claim(self) -> None:
        """See that nobody leads the cell. (Before connecting: our will would clear another hub's lease.)"""
        self._claimed = True
        left = await check_free(self._address, self._topics)
        if left is not None:
            self._left_behind = left.session
            self._log(f"taking over the cell {self._topics.cell!r} from {left.hub}, whose heartbeat has stopped")

    async def serve(self, started: asyncio.Event) -> None:
        """Be the hub until `leave` is called; BrokerError when the broker cannot be reached at the start."""
        async with running(self._control.run(), self.exchange.lanes.run(), self._beat(), self._watch()):
            await self._control.wait_up()
            await self.exchange.lanes.wait_up()
            started.set()
            await self._stop.wait()
            self.members.close()  # no more packets, by which the workers would take us for alive
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(0.5):
                    leads = self._holder.leads
                    await self._holder.clear(self._control)
                    if self.shards is not None and leads:
                        await self._control.publish(self._topics.plan, b"", retain=True)

    def leave(self) -> None:
        """End `serve`, with the lease cleared."""
        self._stop.set()

    async def form(self, wanted: int | None, patience_s: float, check: Callable[[], None]) -> list[str]:
        """Open the session and gather workers for it: exactly `wanted`, or those that are there.

        `check` is called while waiting and may raise. Raises CellError when fewer than `wanted` come. Others may join
        later, up to that number.
        """
        await self._connected()
        self._datagrams.open(self.members.relay)
        if self._datagrams.only and self._datagrams.unavailable:
            raise CellError(f"No datagrams (--transport udp) here: {self._datagrams.unavailable}")
        lease = self._new_lease()
        await self._take_cell(lease)
        gathering = Gathering(wanted, self.roster, self._log, self._topics.cell, self._address, self.shards)

        def check_all() -> None:
            check()
            if self.failure is not None:
                raise self.failure

        await gathering.wait(patience_s, check_all, self._news, lambda: self._holder.put_back(self._control))
        await self.members.begin(wanted)
        return self.members.names()

    async def _take_cell(self, lease: Lease) -> None:
        """Publish the lease; CellError where another hub is quicker, BrokerError where the broker is in the way."""
        if not self._claimed:  # a broker of our own
            await self._holder.publish(self._control, lease)
            return
        # The broker answers in order: whose lease it had when we came has arrived before the answer to this.
        await self._control.subscribe(self._topics.lease, 1)
        await self._holder.publish(self._control, lease)
        await self._holder.is_shown(self._control)
        # Not every broker keeps the order of what it delivers (amqtt does not); what it retains is one lease.
        await self._control.subscribe(self._topics.lease, 1)

    def report(self) -> dict[str, Any]:
        """Everything counted so far, by device name; from any thread."""
        return self.members.settle(self.stats)

    def devices(self) -> dict[str, dict[str, Any]]:
        """How each worker stands and is reached, with all that the native module has counted; from any thread."""
        return {
            name: {
                "state": state["state"],
                "cache": round(state["cache"], 4),
                "owed": state["owed"],
                "link": counted_link(name, link, self._datagrams),
            }
            for name, (state, link) in self.members.standings().items()
        }

    async def _connected(self) -> None:
        try:
            async with asyncio.timeout(_RECONNECT_S):
                await self._control.wait_up()
                await self.exchange.lanes.wait_up()
        except TimeoutError:
            raise BrokerError(
                f"The broker at {self._address} has been away for {_RECONNECT_S:.0f} s. "
                "Is it running? Can this machine reach it?"
            ) from None

    def _new_lease(self) -> Lease:
        offer = self._offer
        return Lease(
            session=self.session,
            hub=offer.hub,
            model=offer.model,
            n_ctx=offer.n_ctx,
            slots=offer.slots,
            partials=offer.partials,
            halo=__version__,
            residency=offer.residency,
            lanes=len(self.exchange.lanes.lanes),
            since=round(time.time(), 3),
            datagrams=self._datagrams.sealing(),
        )

    def _usurped(self, lease: Lease) -> None:
        self._log(f"{lease.hub} has taken over the cell")
        self.members.close()
        self.on_failure()

    async def _on_up(self) -> None:
        """After a reconnection: the broker may have forgotten our lease and profiles, or have another hub's."""
        if self._holder.lease is None:
            return
        self._holder.reconnected()
        self.roster.doubt()
        await self._control.subscribe(self._topics.all_profiles, 1)  # so that it tells all again
        asyncio.get_running_loop().call_later(_RETURN_AFTER_OUTAGE_S, self._settle_doubts, self._control.lives)
        await asyncio.sleep(_USURPER_S)
        await self._holder.put_back(self._control)
        if self.shards is not None and self._holder.leads:
            await self.shards.say_again()

    async def _publish_plan(self, plan: Plan) -> None:
        with contextlib.suppress(BrokerError):  # away: said again when it is back
            await self._control.publish(self._topics.plan, encode(plan), retain=True)

    def _settle_doubts(self, life: int) -> None:
        if self._control.is_up and life == self._control.lives:  # else the next reconnection does it
            self.roster.settle_doubts()
            self.members.miss_silent_ones()

    async def _beat(self) -> None:
        while True:
            if self.shards is not None and self._holder.leads:
                await self.shards.follow()
                await self.shards.put_back()
            if self._holder.beat(self._control) and self.shards is not None:
                await self.shards.say_again()
            if self._holder.lease is not None:
                self._control.send(self._topics.links, encode(self._links()))
            await asyncio.sleep(_BEAT_S)

    def _links(self) -> Links:
        standings = self.members.standings()
        states = {name: state for name, (state, _) in standings.items()}
        links = [
            link_of(name, link, self._datagrams)
            for name, (state, link) in standings.items()
            if state["state"] not in ("gone", "expelled")
        ]
        return Links(session=self.session, links=links, work=work_of(self.report(), states))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self.members.poll()

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.lease:
            self._holder.hear(self._control, payload, retained)
        elif topic == self._topics.beat:
            self._holder.hear_beat(payload, retained)
            return
        elif self.shards is not None and topic == self._topics.plan:
            self.shards.hear(payload)
            return
        elif name := self._topics.profile_owner(topic):
            if self._holder.lease is not None and not self._control.is_up:
                self.roster.doubt()  # a broker may tell what it retains before we hear that it has subscribed us
            if self.roster.hear(name, payload, retained) and name not in self.roster.profiles:
                self._check_soon(name)
            else:
                self.members.hear(name)
            self._tell_crowd()
        self._news.set()

    def _tell_crowd(self) -> None:
        if self.roster.left_out and not self._told_crowd:
            self._told_crowd = True
            self._log(crowd(self._topics.cell))

    def _check_soon(self, name: str) -> None:
        """Miss a device whose profile is not back in a moment; if we are cut off meanwhile that says nothing."""
        life = self._control.lives

        def check() -> None:
            if self._control.is_up and life == self._control.lives and not self._stop.is_set():
                self.members.miss(name)

        asyncio.get_running_loop().call_later(_RETURN_S, check)
