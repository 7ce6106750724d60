"""The hub's life in a cell: it holds the lease, follows the workers and forms sessions with them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from halo.cell.address import Address
from halo.cell.connection import Connection
from halo.cell.links import counted_link, link_of
from halo.cell.messages import BadDocument, Beat, Lease, Link, Links, ModelId, Partials, Plan, Residency, decode, encode
from halo.cell.native import Native, Relay
from halo.cell.roster import Roster
from halo.cell.shards import HubShards
from halo.cell.topics import Topics
from halo.cell.view import already_led, check_free, running
from halo.errors import BrokerError, CellError
from halo.exchange.addresses import is_loopback
from halo.exchange.datagrams import HubDatagrams, Transport, in_one_line, unreached
from halo.exchange.lanes import LANES
from halo.exchange.mqtt import HubExchange
from halo.limits import LIMITS
from halo.words import shortened

_BEAT_S = 1.0
_MOST = int(LIMITS["workers"].high)
_RETURN_S = 0.25
"""A device whose profile is cleared and back within this time only changed its connection."""
_RETURN_AFTER_OUTAGE_S = 3.0
"""The same after we ourselves were cut off: the others have to find the broker again, too."""
_RECONNECT_S = 5.0
_LOADING_S = 10.0
"""A worker that loads says each second how far it is."""
_USURPER_S = 0.2
_BROKER_ANSWERS_S = 0.8
_PLAIN_RE_REQUEST_S = 0.5
"""With one lane, a request that is sent again queues behind the first: only loss by the broker makes it useful."""


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


@dataclass
class Formation:
    """The workers that compute one session. Request numbers begin anew with a relay, so each has its own."""

    session: str
    names: list[str]
    relay: Relay | None
    losses: dict[str, str] = field(default_factory=dict)
    """Workers that have gone since, and why."""


class _Unreached(CellError):
    """The user wants datagrams only, and they do not reach everyone."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(
            f"Not every worker is reached by datagrams (--transport udp): {in_one_line(reasons)}. Or use auto."
        )
        self.reasons = reasons


class HubSession:
    """Made and used in the hub's loop; `formation` and the two flags may be read from any thread."""

    def __init__(
        self,
        address: Address,
        topics: Topics,
        offer: Offer,
        native: Native,
        log: Callable[[str], None],
        lanes: int = LANES,
        shards: Callable[[Roster, Callable[[Plan], Awaitable[None]]], HubShards] | None = None,
    ) -> None:
        """`shards` makes the one who tells workers what to hold, where they do not hold everything."""
        self.roster = Roster()
        self.shards = None if shards is None else shards(self.roster, self._publish_plan)
        self.formation = Formation("", [], None)
        self.joiner_waits = False
        self.failure: CellError | None = None
        """Why this hub may not go on: another one leads the cell."""
        self._topics = topics
        self._offer = offer
        self._native = native
        self._log = log
        self._address = address
        self._limit: int | None = None
        self._lease: Lease | None = None
        self._own_sessions: set[str] = set()
        self._left_behind = ""
        self._standing = False
        self._heard_at = 0.0
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        """Set: the workers that go are leaving with us."""
        identity = secrets.token_hex(6)
        self._datagrams = HubDatagrams(native, "mqtt", loopback=False)
        self.exchange = HubExchange(address, topics, f"halo-{identity}-data", lanes)
        self._control = Connection(
            address,
            f"halo-{identity}-hub",
            self._hear,
            topics={topics.lease: 1, topics.all_profiles: 1},
            on_up=self._on_up,
            will_clears=topics.lease,
            log=log,
        )

    @property
    def loss_waits(self) -> bool:
        """A worker of the formation is gone: its relay is of no more use."""
        return bool(self.formation.losses)

    async def claim(self) -> None:
        """See that nobody leads the cell. (Before connecting: our will would clear another hub's lease.)"""
        left = await check_free(self._address, self._topics)
        if left is not None:
            self._left_behind = left.session
            self._log(f"taking over the cell {self._topics.cell!r} from {left.hub}, whose heartbeat has stopped")

    async def serve(self, started: asyncio.Event) -> None:
        """Be the hub until `leave` is called; BrokerError when the broker cannot be reached at the start."""
        async with running(self._control.run(), self.exchange.lanes.run(), self._beat()):
            await self._control.wait_up()
            await self.exchange.lanes.wait_up()
            started.set()
            await self._stop.wait()
            held, self._lease = self._lease, None  # from here on it is not put back
            if held is not None and self.failure is None:
                with contextlib.suppress(BrokerError, TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self._control.publish(self._topics.lease, b"", retain=True)
                        if self.shards is not None:
                            await self._control.publish(self._topics.plan, b"", retain=True)

    def leave(self) -> None:
        """End `serve`, with the lease cleared."""
        self._stop.set()

    async def form(self, wanted: int | None, patience_s: float, check: Callable[[], None]) -> Formation:
        """Open a new session and gather workers for it: exactly `wanted`, or those that are there.

        `check` is called while waiting and may raise. Raises CellError when fewer than `wanted` come.
        """
        self._limit = wanted
        session = secrets.token_hex(8)
        await self._connected()
        self.exchange.listen(session)
        self._datagrams = self._new_datagrams()
        if self._offer.transport == "udp" and self._datagrams.unavailable:
            raise CellError(f"No datagrams (--transport udp) here: {self._datagrams.unavailable}")
        await self._publish_lease(session)
        await self._gather(session, wanted, patience_s, check)
        return await self._assemble(session)

    async def form_again(self) -> Formation:
        """A new session with the workers that are left and those that have joined; it may be none."""
        without: set[str] = set()
        while True:
            session = secrets.token_hex(8)  # another one at each try: keys and request numbers are never used twice
            await self._connected()
            self.exchange.listen(session)
            self._datagrams = self._new_datagrams()
            await self._publish_lease(session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while self.roster.undecided(session):
                        if self.shards is not None:
                            await self.shards.follow()
                        await self._wait_news()
            try:
                formation = await self._assemble(session, without)
                break
            except _Unreached as error:  # the others go on; it may come again when its profile says something new
                without |= error.reasons.keys()
                self._log(f"doing without those that datagrams do not reach: {in_one_line(error.reasons)}")
        self._log(f"computing with {describe(formation.names)}")
        return formation

    def suspect(self, name: str, reason: str) -> None:
        """A worker has not answered for too long: do without it until it says something."""
        self.roster.suspect(name)
        self._lose(name, reason)

    def expel(self, name: str, reason: str) -> None:
        """A worker's answers cannot be used: do without it until it is started anew."""
        self.roster.expel(name)
        self._lose(name, reason)

    async def broker_failure(self) -> str | None:
        """What is wrong with the broker, if anything is; then every worker of the formation is out of reach.

        Asked when a worker has said nothing for long, for that may be the broker's silence.
        """
        if self._control.is_up and self.exchange.lanes.is_up:
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(_BROKER_ANSWERS_S):
                    await self._control.publish(self._topics.beat, encode(Beat(session=self.formation.session)))
                    return None
            reason = "it does not answer"
        else:
            reason = "the connection to it has ended"
        for name in self.formation.names:  # so that the next call forms a session anew, once the broker is back
            self.formation.losses.setdefault(name, f"the broker is away: {reason}")
        return f"The broker at {self._address} was lost in the middle of a token: {reason}"

    async def _assemble(self, session: str, without: Collection[str] = ()) -> Formation:
        """Take the workers that are ready, and open links to them; _Unreached where the user wants more than these."""
        ready = [name for name in self.roster.ready(session) if name not in without]
        names = ready[: self._limit if self._limit is not None else _MOST]
        if self._limit is None and len(ready) > _MOST:
            self._log(
                f"{len(ready)} workers are ready: the first {_MOST} by name take part, as many as a cell may have"
            )
        relay = None
        if names:
            post = self.exchange.poster(names, [self.roster.profiles[name].lanes for name in names])
            again_s = _PLAIN_RE_REQUEST_S if self.exchange.is_plain else None
            relay = self._native.Relay(int(session, 16), len(names), post, re_request_s=again_s)
            self.exchange.bind(relay, names)
            if self.shards is not None:
                self.shards.tell(relay, enumerate(names))
            try:
                await self._datagrams.open(relay, session, [self.roster.profiles[name] for name in names])
                self._tell_links(relay, names)
            except BaseException:
                self.exchange.unbind()
                raise
        self.formation = Formation(session, names, relay)
        self.joiner_waits = False
        return self.formation

    def _new_datagrams(self) -> HubDatagrams:
        return HubDatagrams(self._native, self._offer.transport, loopback=is_loopback(self._address.host))

    def _tell_links(self, relay: Relay, names: list[str]) -> None:
        """Say, or complain about, which workers are reached by datagrams."""
        if self._datagrams.unavailable:
            if self._offer.transport == "auto":
                self._log(
                    f"partials go over MQTT only, since this device has no datagrams: {self._datagrams.unavailable}"
                )
            return
        reasons = unreached(names, self.roster.profiles, relay.links(), self._datagrams.troubles)
        if reasons and self._offer.transport == "udp":
            raise _Unreached(reasons)
        if reasons:
            self._log(f"partials go over MQTT where datagrams do not reach: {in_one_line(reasons)}")

    def links(self) -> list[Link]:
        """How the workers of the formation are reached; from any thread."""
        return [link_of(name, state, self._datagrams) for name, state in self._link_states()]

    def counted_links(self) -> dict[str, dict[str, Any]]:
        """The same by name, with all that the native module has counted; from any thread."""
        return {name: counted_link(name, state, self._datagrams) for name, state in self._link_states()}

    def _link_states(self) -> list[tuple[str, dict[str, Any]]]:
        formation = self.formation
        if formation.relay is None:
            return []
        states = zip(formation.names, formation.relay.links(), strict=True)
        return [(name, state) for name, state in states if name not in formation.losses]

    async def _gather(self, session: str, wanted: int | None, patience_s: float, check: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        begin = told = loop.time()
        while True:
            check()
            waited = loop.time() > begin + patience_s
            if self.shards is not None:
                await self.shards.gather(wanted, waited)
            if waited and not self._is_loading(session):
                break
            ready, refusals = self.roster.ready(session), self.roster.refusals()
            if wanted is not None and len(ready) >= wanted:
                return
            settled = not self.roster.undecided(session) and loop.time() > begin + 1
            if settled and (refusals or (wanted is None and ready)):
                break
            if wanted is not None and loop.time() > told + 3:
                told = loop.time()
                self._log(f"waiting for workers: {len(ready)} of {wanted} ready")
                await self._publish_lease(session)  # every worker answers: a lost document heals itself
            await self._wait_news(0.1)
        self._complain(session, wanted)

    def _is_loading(self, session: str) -> bool:
        """Whether somebody who will serve the session is not ready, and has got further lately."""
        if self.shards is not None and not self.shards.is_settled:
            return False  # they wait for others
        loading = set(self.roster.serving(session)) - set(self.roster.ready(session))
        return bool(loading) and asyncio.get_running_loop().time() < self._heard_at + _LOADING_S

    def _complain(self, session: str, wanted: int | None) -> None:
        ready, refusals = self.roster.ready(session), self.roster.refusals()
        if len(ready) >= (wanted or 0) and (ready or not refusals):
            for refusal in refusals:
                self._log(f"not taking part: {refusal}")
            return
        text = f"{len(ready)} of {wanted} workers are ready" if wanted else "no worker is ready"
        text += f" ({', '.join(ready)})" if ready else ""
        text += f" in the cell {self._topics.cell!r} at {self._address}"
        if refusals:
            raise CellError(f"Only {text}. " + " ".join(refusals))
        raise CellError(
            f"Only {text}. Start the missing ones with 'halo worker --broker {self._address} --cell "
            f"{self._topics.cell} -m MODEL' (for another machine: with this broker's name in its network), "
            "see who is there with 'halo devices', or ask for fewer: --workers."
        )

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

    async def _publish_lease(self, session: str) -> None:
        offer = self._offer
        if self.shards is not None and session not in self._own_sessions:
            self.shards.begin(session)
        self._lease = Lease(
            session=session,
            hub=offer.hub,
            model=offer.model,
            n_ctx=offer.n_ctx,
            slots=offer.slots,
            partials=offer.partials,
            residency=offer.residency,
            lanes=len(self.exchange.lanes.lanes),
            since=round(time.time(), 3) if self._lease is None else self._lease.since,
            datagrams=self._datagrams.sealing(),
        )
        self._own_sessions.add(session)
        await self._control.publish(self._topics.lease, encode(self._lease), retain=True)

    async def _on_up(self) -> None:
        """After a reconnection: the broker may have forgotten our lease, or have another hub's."""
        if self._lease is None:
            return
        self._standing = False
        self._check_soon(_RETURN_AFTER_OUTAGE_S, self.formation.names)
        await asyncio.sleep(_USURPER_S)
        if self.failure is None:
            await self._control.publish(self._topics.lease, encode(self._lease), retain=True)
            if self.shards is not None:
                await self.shards.say_again()

    async def _publish_plan(self, plan: Plan) -> None:
        with contextlib.suppress(BrokerError):  # away: said again when it is back
            await self._control.publish(self._topics.plan, encode(plan), retain=True)

    async def _follow_shards(self) -> None:
        if self.shards is None or self.formation.session != (self._lease and self._lease.session):
            return
        await self.shards.follow()
        if self.formation.relay is not None:
            self.shards.tell(self.formation.relay, enumerate(self.formation.names))

    async def _beat(self) -> None:
        while True:
            await self._follow_shards()
            if self._lease is not None and self.failure is None:
                self._control.send(self._topics.beat, encode(Beat(session=self._lease.session)))
                if self.formation.session == self._lease.session:  # else the next one is being formed
                    links = Links(session=self._lease.session, links=self.links())
                    self._control.send(self._topics.links, encode(links))
            await asyncio.sleep(_BEAT_S)

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.lease:
            self._hear_lease(payload, retained)
        elif name := self._topics.profile_owner(topic):
            self._hear_profile(name, payload)
        self._news.set()

    def _hear_lease(self, payload: bytes, retained: bool) -> None:
        """Keep the lease against late wills, and give it up to a hub that took it after us."""
        if self._lease is None or self.failure is not None:
            return
        if not payload:
            self._control.send(self._topics.lease, encode(self._lease), retain=True)
            return
        try:
            lease = decode(Lease, payload)
        except BadDocument:
            self.roster.ignored += 1
            return
        if lease.session in self._own_sessions:
            self._standing = True
        elif lease.session != self._left_behind and (self._standing or retained):
            self.failure = CellError(already_led(self._topics.cell, lease))
            self._log(f"{lease.hub} has taken over the cell")
            for name in self.formation.names:
                self._lose(name, "another hub has taken over the cell")

    def _hear_profile(self, name: str, payload: bytes) -> None:
        before = self.roster.profiles.get(name)
        if not self.roster.hear(name, payload):
            return
        now = self.roster.profiles.get(name)
        if before is None or now is None or (before.state, before.loaded) != (now.state, now.loaded):
            self._heard_at = asyncio.get_running_loop().time()
        if now is not None:
            self._datagrams.hear(now)
        if name in self.formation.names:
            if now is None:
                self._check_soon(_RETURN_S, [name])
            elif before is not None and before.incarnation != now.incarnation:
                self._lose(name, "it was started anew")
            elif now.session != self.formation.session and now.session != (self._lease and self._lease.session):
                self._lose(name, now.reason or "it left the session")
        elif self._is_joiner(name) and not self.joiner_waits:
            self.joiner_waits = True
            self._log(f"worker {name} has joined: it takes part from the next prompt on")

    def _is_joiner(self, name: str) -> bool:
        session, names = self.formation.session, self.formation.names
        room = len(names) < (self._limit if self._limit is not None else _MOST)
        return bool(session) and room and name in self.roster.ready(session)

    def _check_soon(self, delay_s: float, names: list[str]) -> None:
        arguments = (self.formation, self._control.lives, names)
        asyncio.get_running_loop().call_later(delay_s, self._check_gone, *arguments)

    def _check_gone(self, formation: Formation, life: int, names: list[str]) -> None:
        """Lose the devices that have no profile (now in another formation, or cut off: that says nothing)."""
        if formation is not self.formation or not self._control.is_up or life != self._control.lives:
            return
        for name in names:
            if name not in self.roster.profiles:
                self._lose(name, "its connection to the broker has ended")

    def _lose(self, name: str, reason: str) -> None:
        formation = self.formation
        if self._stop.is_set() or name not in formation.names or name in formation.losses:
            return
        formation.losses[name] = reason
        if formation.relay is not None:
            formation.relay.lost(formation.names.index(name), f"worker {name}: {reason}")
        self._log(f"worker {name} is lost: {reason}")

    async def _wait_news(self, timeout_s: float = 0.5) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()


def describe(names: list[str]) -> str:
    """`the hub and 2 workers (a, b)`."""
    if not names:
        return "the hub alone"
    return f"the hub and {len(names)} worker{'s' if len(names) > 1 else ''} ({shortened(names)})"
