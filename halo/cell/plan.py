"""Who holds which shard of the model, and its groups, where no worker holds all of it (`residency: shards`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from halo.cell.messages import Plan, Shard
from halo.cell.native import Masks, Native

WHOLE: Shard = (0, 1)


def masks_of_shard(native: Native, model: object, shard: Shard | None) -> Masks:
    """The groups that belong to this shard of an open native model; of None: no group of any layer."""
    if shard is None:
        return [(0, 0)] * len(native.shard_masks(model, *WHOLE))
    return native.shard_masks(model, *shard)


class ShardPlan:
    """The shards of one session.

    How many there are is settled once, from the workers that begin. A worker keeps its shard; one that is gone loses it
    only to somebody who waits for one.
    """

    def __init__(self, session: str, hub_share: float | None) -> None:
        self.session = session
        self.hub_shard: Shard | None = None
        """What the hub holds; None: `hub_share` of each layer, beside the workers that share all."""
        self._hub_counts = hub_share is None
        self._of = 0
        self._shards: dict[str, int | None] = {}

    @property
    def is_settled(self) -> bool:
        """Whether it is known how many shards there are."""
        return self._of > 0

    def settle(self, names: Collection[str]) -> None:
        """These workers share the model, with the hub as one more device where it has no share of its own."""
        first = 1 if self._hub_counts else 0
        self._of = max(1, len(names) + first)
        self.hub_shard = (0, self._of) if self._hub_counts else None
        self._shards = {name: first + i for i, name in enumerate(sorted(names))}

    def follow(self, present: Iterable[str]) -> bool:
        """Give the shards that nobody holds to those who have none; returns whether anything changed."""
        here = set(present)
        before = dict(self._shards)
        held = {shard for name, shard in self._shards.items() if name in here}
        first = 1 if self._hub_counts else 0
        free = [shard for shard in range(first, self._of) if shard not in held]
        for name in sorted(here):
            if self._shards.get(name) is None:
                self._shards[name] = free.pop(0) if free else None
                self._take_from_the_gone(name)
        return self._shards != before

    def _take_from_the_gone(self, taker: str) -> None:
        shard = self._shards[taker]
        for name in [n for n, s in self._shards.items() if s is not None and s == shard and n != taker]:
            del self._shards[name]

    def shard_of(self, name: str) -> Shard | None:
        """What this worker is to hold; None: nothing."""
        shard = self._shards.get(name)
        return None if shard is None else (shard, self._of)

    def document(self) -> Plan:
        """What the workers are told."""
        return Plan(session=self.session, shards={name: self.shard_of(name) for name in sorted(self._shards)})
