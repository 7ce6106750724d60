"""The hub's side of `residency: shards`: it tells workers what to hold, and the relay what they hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from halo.cell.messages import BadDocument, Plan, decode
from halo.cell.native import Masks, Native, Relay
from halo.cell.plan import ShardPlan, masks_of_shard
from halo.cell.roster import Roster


class HubShards:
    """Follows the roster of one session; used in the hub's loop, but for `hub_masks`."""

    def __init__(
        self,
        session: str,
        native: Native,
        model: object,
        hub_share: float | None,
        roster: Roster,
        publish: Callable[[Plan], Awaitable[None]],
    ) -> None:
        self._native = native
        self._model = model
        self._hub_share = hub_share
        self._roster = roster
        self._publish = publish
        self._plan = ShardPlan(session, hub_share)
        self._published: Plan | None = None
        self._stands = True
        """What was published last is what the broker has, as far as we know."""
        self._told: dict[tuple[int, str], Masks] = {}
        self._missed: set[str] = set()

    @property
    def is_settled(self) -> bool:
        """Whether the workers have been told what to hold."""
        return self._plan.is_settled

    def hub_masks(self) -> Masks:
        """What the hub keeps in memory from the beginning; the rest it reads from its file when it needs it."""
        if self._plan.hub_shard is not None:
            return masks_of_shard(self._native, self._model, self._plan.hub_shard)
        return self._native.share_masks(self._model, self._hub_share or 0.0)

    def masks_of(self, name: str) -> Masks:
        """What this worker holds: what its profile says, if that is what it was told to hold; else nothing."""
        profile, wanted = self._roster.profiles.get(name), self._plan.shard_of(name)
        holds = None if profile is None or profile.shard != wanted else wanted
        return masks_of_shard(self._native, self._model, holds)

    async def gather(self, wanted: int | None, waited: bool) -> None:
        """While workers come: share out once `wanted` are there or, without a number, when it was `waited` enough."""
        serving = self._roster.serving()
        if not self._plan.is_settled and (waited if wanted is None else len(serving) >= wanted):
            self._plan.settle(serving[:wanted])
        await self.follow()

    async def follow(self) -> None:
        """Give those that have come since what those that are gone have held, and tell everybody.

        Called each second: who is missing at two calls is gone, and has not just changed its connection.
        """
        if not self._plan.is_settled:
            return
        serving = set(self._roster.serving())
        known = set(self._plan.document().shards)
        just_missing = known - serving - self._missed
        self._missed = known - serving
        self._plan.follow(serving | just_missing)
        document = self._plan.document()
        if document != self._published:
            self._published = document
            await self._publish(document)

    def hear(self, payload: bytes) -> None:
        """What stands on the plan's topic."""
        try:
            self._stands = decode(Plan, payload) == self._published
        except BadDocument:
            self._stands = False

    async def put_back(self) -> None:
        """Say the plan again where another thing stands there: once a second, for whoever writes that may go on."""
        if not self._stands:
            self._stands = True
            await self.say_again()

    async def say_again(self) -> None:
        """The broker may have forgotten the plan."""
        if self._published is not None:
            await self._publish(self._published)

    def tell(self, relay: Relay, members: Iterable[tuple[int, str]]) -> None:
        """Tell the relay what its workers, (index, name), hold, where that has changed."""
        for member in members:
            masks = self.masks_of(member[1])
            if self._told.get(member) != masks:
                relay.set_resident(member[0], masks)
                self._told[member] = masks
