"""The members of the hub's session, as they come and go while it generates.

Two sources tell of them: the profiles at the broker say who is ready, who leaves and who was started anew; the relay
says who answers. Only what they make of it is here: what the native module is told, and what the user is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from halo.cell import news
from halo.cell.holdoff import Holdoff
from halo.cell.ledger import Ledger
from halo.cell.messages import Profile
from halo.cell.native import Native, Relay
from halo.cell.roster import Owner, Roster, owner_of, serves
from halo.cell.shards import HubShards
from halo.errors import CellError
from halo.exchange.datagrams import HubDatagrams, in_one_line, why_unreached
from halo.exchange.mqtt import HubExchange
from halo.limits import LIMITS

MOST = int(LIMITS["workers"].high)
POLL_S = 0.25
"""Between two looks at who answers; what is shorter is nobody's concern."""
_AFTERGLOW_S = 1.0
"""Packets that come later than this after a worker has left were not on their way when it did."""
_FRESH_S = 2.5
"""Whose last packet is no older than this answers: the hub pings each link every second."""
_CONNECTION_ENDED = "its connection to the broker has ended"

Told = Literal["nothing", "used", "away", "left", "expelled"]


@dataclass
class Member:
    """A worker at an index of the relay."""

    name: str
    index: int
    owner: Owner
    profile: Profile
    told: Told = "used"
    """What the user knows."""
    here: bool = True
    """Whether the relay may ask it for anything; one that is not keeps its index, for it may come back."""
    closed: bool = False
    """It has ended the session itself, and so has no caches any more."""
    since: float = 0.0
    """Since when it is here or not."""
    away_since: float = 0.0
    packets: int = 0
    packets_at: float = 0.0
    trial_ends: float | None = None
    """Until then datagrams must have reached it (--transport udp)."""


class Members:
    """Made and used in the hub's loop; what is said to be for any thread may be called from any."""

    def __init__(
        self,
        session: str,
        native: Native,
        relay: Relay,
        exchange: HubExchange,
        datagrams: HubDatagrams,
        roster: Roster,
        log: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        shards: HubShards | None = None,
    ) -> None:
        self.relay = relay
        self._session = session
        self._native = native
        self._exchange = exchange
        self._datagrams = datagrams
        self._roster = roster
        self._log = log
        self._now = now
        self._shards = shards
        self._limit = MOST
        self._begun = False
        self._members: dict[str, Member] = {}
        self._refused: dict[str, Owner] = {}
        """Who could not join, as it was then: it may try again when it is another."""
        self._told_refusals: dict[str, str] = {}
        """What the user knows of those that will not serve."""
        self._holdoff = Holdoff(now)
        self._lock = threading.RLock()
        """Held where names, indices and figures must belong together."""
        self._ledger = Ledger()

    async def begin(self, wanted: int | None) -> None:
        """Take the first members: those that are ready. CellError where the user wants more than is there."""
        self._limit = MOST if wanted is None else wanted
        ready = self._roster.ready()
        if wanted is None and len(ready) > MOST:
            self._log(f"{len(ready)} workers are ready: the first {MOST} by name take part, as many as a cell may have")
        for name in ready[: self._limit]:
            self._take(name)
        await self._datagrams.settle()
        self._tell_links()
        self._told_refusals = self._roster.refusals()
        self._begun = True

    def close(self) -> None:
        """The session ends: nobody is a member any more. What was counted stays."""
        self._begun = False
        for member in list(self._members.values()):
            self._forget(member)

    # ---- what the profiles say

    def hear(self, name: str) -> None:
        """There is another profile of this device; one that is cleared may be back in a moment (see `miss`)."""
        profile, member = self._roster.profiles.get(name), self._members.get(name)
        if not self._begun:
            return
        if profile is not None and member is not None:
            self._hear_member(member, profile)
        self._tell_refusal(name)
        self._fill()

    def miss(self, name: str) -> None:
        """This device's profile was cleared, and has not come back."""
        member = self._members.get(name)
        if self._roster.is_doubted(name):  # who is still there will be heard of, or missed with the others
            return
        if self._begun and member is not None and member.here and name not in self._roster.profiles:
            self._leave(member, _CONNECTION_ENDED)
            self._fill()

    def miss_silent_ones(self) -> None:
        """The broker was away and has forgotten some devices: those that datagrams do not reach either have left."""
        now = self._now()
        for member in list(self._members.values()):
            if now - member.packets_at > _FRESH_S:
                self.miss(member.name)

    def _hear_member(self, member: Member, profile: Profile) -> None:
        owner = owner_of(profile)
        if profile.incarnation != member.owner[0]:
            self._end(member, "it was started anew")
        elif not serves(profile, self._session):
            if member.here and profile.state == "refused":
                self._told_refusals[member.name] = profile.reason  # as the reason of its leaving
            self._end(member, profile.reason or "it has ended the session")
        elif owner != member.owner:
            self._end(member, "it has begun the session anew")
        else:
            member.profile = profile
            self._datagrams.hear(profile)

    def _end(self, member: Member, reason: str) -> None:
        """It will not be back with its caches."""
        member.closed = True
        if member.here:
            self._leave(member, reason)

    def _tell_refusal(self, name: str) -> None:
        """Say once that this device will not serve, and why: its user may be waiting for it."""
        reason = self._roster.refusal(name)
        if not reason or self._told_refusals.get(name) == reason:
            return
        if len(self._told_refusals) >= MOST:
            del self._told_refusals[next(iter(self._told_refusals))]
        self._told_refusals[name] = reason
        self._log(news.left_out(name, reason))

    # ---- what the relay says

    def poll(self) -> None:
        """Look who answers, and tell of changes: call it every `POLL_S`."""
        if not self._begun:
            return
        if self._shards is not None:
            self._shards.tell(self.relay, [(m.index, m.name) for m in self._members.values() if m.here])
        states, links, now = self.relay.members(), self.relay.links(), self._now()
        silent: list[str] = []
        back: list[Member] = []
        for member in list(self._members.values()):
            if (state := _at(states, member.index)) is None:
                continue
            self._count_packets(member, _at(links, member.index), now)
            if state["state"] == "expelled":
                self._expel(member, state["reason"])
            elif member.here and member.trial_ends is not None:
                self._try(member, _at(links, member.index), now)
            elif member.here and state["state"] in ("away", "gone"):
                if member.told == "used":
                    member.told, member.away_since = "away", now - state["for_s"]
                    silent.append(member.name)
            elif member.here and member.told == "nothing":
                member.told = "used"
                self._log(news.joined(member.name))
            elif member.here and member.told in ("away", "left"):
                member.told = "used"
                back.append(member)
            if member.told == "away" and now - member.packets_at > _FRESH_S:
                self.miss(member.name)  # the broker does not know it any more either
        if silent:
            self._log(news.silent(silent, self._any_used()))
        if back:
            away_s = max(now - member.away_since for member in back)
            self._log(news.back([member.name for member in back], away_s))
        self._fill()

    def _count_packets(self, member: Member, link: dict[str, Any] | None, now: float) -> None:
        """Notice whether datagrams come, also of one that has left: who has lost only the broker is there."""
        if link is None or not link["offered"]:
            return
        packets = int(link["packets"]["packets_received"])
        more, member.packets = packets > member.packets, packets
        if more:
            member.packets_at = now
        if more and not member.here and not member.closed and now - member.since > _AFTERGLOW_S and self._has_room():
            self._return(member)

    def _expel(self, member: Member, reason: str) -> None:
        if member.told == "expelled":
            return
        member.told, member.here, member.closed = "expelled", False, True
        self._roster.expel(member.owner[0])
        self._log(news.expelled(member.name, reason, self._any_used()))

    def _try(self, member: Member, link: dict[str, Any] | None, now: float) -> None:
        """Of a later joiner, where only datagrams may carry anything: do they reach it?"""
        assert member.trial_ends is not None
        reason = why_unreached(member.profile, link, self._datagrams.troubles)
        if not reason:
            member.trial_ends, member.told = None, "used"
            self._log(news.joined(member.name))
        elif now >= member.trial_ends:
            self._refuse(member.profile, reason)
            self._leave(member, reason)

    # ---- what is done

    def _fill(self) -> None:
        """Let in who is ready, as long as there is room."""
        for name in self._roster.ready() if self._begun else ():
            if not self._has_room():
                return
            member, owner = self._members.get(name), owner_of(self._roster.profiles[name])
            if (member is None or not member.here) and self._refused.get(name) != owner and self._holdoff.allows(name):
                self._take(name)

    def _take(self, name: str) -> None:
        """Join, or come back."""
        profile, member = self._roster.profiles[name], self._members.get(name)
        self._holdoff.note(name)
        if member is not None and not member.closed and member.owner == owner_of(profile):
            member.profile = profile
            self._return(member)
            return
        if member is not None:
            self._forget(member)
        self._make_room()
        offer = self._datagrams.offer(profile)
        if self._begun and offer is None and self._datagrams.only:
            self._refuse(profile, why_unreached(profile, None, self._datagrams.troubles))
            return
        with self._lock:
            try:
                resident = None if self._shards is None else self._shards.masks_of(name)
                index = self.relay.join(offer, resident=resident)
            except self._native.NativeError as error:
                self._refuse(profile, str(error))
                return
            member = Member(name, index, owner_of(profile), profile, since=self._now(), packets_at=self._now())
            self._members[name] = member
        self._exchange.add(index, name, profile.lanes)
        if offer is not None:
            self._datagrams.opened(profile, index, offer)
        if self._begun and self._datagrams.only:
            member.told, member.trial_ends = "nothing", self._now() + self._datagrams.patience_s
        elif self._begun:
            self._log(news.joined(name))

    def _return(self, member: Member) -> None:
        self.relay.rejoin(member.index)
        member.here, member.since = True, self._now()  # the user is told when it answers

    def _leave(self, member: Member, reason: str) -> None:
        self.relay.leave(member.index, reason)
        member.here, member.since, member.trial_ends = False, self._now(), None
        before = member.told
        if before == "used":
            member.away_since = member.since
        if before != "nothing":  # who has not come yet does not leave
            member.told = "left"
        if before == "used" or (before == "away" and reason != _CONNECTION_ENDED):  # else it is known not to answer
            self._log(news.left(member.name, reason, self._any_used()))

    def _refuse(self, profile: Profile, reason: str) -> None:
        self._refused[profile.name] = owner_of(profile)
        self._log(news.left_out(profile.name, reason))

    def _forget(self, member: Member) -> None:
        if member.here:
            self.relay.leave(member.index, "it is not needed any more")
        with self._lock:
            self._ledger.add(member.name, self.relay.forget(member.index))
            del self._members[member.name]
        self._exchange.remove(member.index)
        self._datagrams.forget(member.name)

    def _make_room(self) -> None:
        """There are as many indices as members may be: who left first, of those that are not here, loses its own."""
        if len(self._members) >= MOST:
            gone = [member for member in self._members.values() if not member.here]
            self._forget(min(gone, key=lambda member: member.since))

    def _has_room(self) -> bool:
        return len(self.names()) < self._limit

    def _any_used(self) -> bool:
        return any(member.here and member.told == "used" for member in self._members.values())

    def _tell_links(self) -> None:
        """Say, or complain about, which of the first members are not reached by datagrams."""
        if not self._datagrams.wanted or not self._members:
            return
        if self._datagrams.unavailable:
            self._log(f"partials go over MQTT only, since this device has no datagrams: {self._datagrams.unavailable}")
            return
        links, troubles = self.relay.links(), self._datagrams.troubles
        found = {m.name: why_unreached(m.profile, _at(links, m.index), troubles) for m in self._members.values()}
        reasons = {name: reason for name, reason in found.items() if reason}
        if reasons and self._datagrams.only:
            raise CellError(
                f"Not every worker is reached by datagrams (--transport udp): {in_one_line(reasons)}. Or use auto."
            )
        if reasons:
            self._log(f"partials go over MQTT where datagrams do not reach: {in_one_line(reasons)}")

    # ---- for any thread

    def names(self) -> list[str]:
        """Who takes part, whether it answers just now or not."""
        with self._lock:
            return sorted(member.name for member in self._members.values() if member.here)

    def name(self, index: int) -> str | None:
        """Whose this index is."""
        with self._lock:
            return next((member.name for member in self._members.values() if member.index == index), None)

    def standings(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Of all that have an index, those that have left too: what the relay says of them and of their links."""
        with self._lock:
            states, links = self.relay.members(), self.relay.links()
            found = {m.name: (_at(states, m.index), _at(links, m.index)) for m in self._members.values()}
        return {name: (state, link) for name, (state, link) in found.items() if state is not None and link is not None}

    def settle(self, stats: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Everything counted so far, by device name; `stats` is the engine's."""
        with self._lock:
            return self._ledger.with_running(stats(), {m.index: m.name for m in self._members.values()})

    def reset(self) -> None:
        """Forget what those did whose index was given up."""
        with self._lock:
            self._ledger = Ledger()


def _at(states: list[dict[str, Any] | None], index: int) -> dict[str, Any] | None:
    return states[index] if index < len(states) else None
