"""What a worker holds in memory: it learns what that shall be, and loads it while the loop goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from halo.cell.memory import Budget
from halo.cell.messages import BadDocument, Lease, Plan, Shard, decode
from halo.cell.native import Native
from halo.cell.plan import WHOLE, masks_of_shard

_TELL_S = 1.0


class _Stopped(Exception):
    """The loading was cancelled."""


class Residence:
    """Of one worker. Made and used in the loop; the loading has a thread of its own."""

    def __init__(self, native: Native, model: Any, name: str, budget: Budget, log: Callable[[str], None]) -> None:
        self.ignored = 0
        """Plans that were not valid."""
        self._native = native
        self._model = model
        self._name = name
        self._budget = budget
        self._log = log
        self._plan: Plan | None = None
        self._unread = ""
        """Why what stands on the plan's topic cannot be read."""
        self._news = asyncio.Event()
        self._loader = ThreadPoolExecutor(1, "halo-load")

    def hear(self, payload: bytes) -> None:
        """Take in the payload of the plan's topic."""
        try:
            self._plan = decode(Plan, payload) if payload else None
            self._unread = ""
        except BadDocument as error:
            self.ignored += 1
            self._unread = str(error)
        self._news.set()

    async def wanted(self, lease: Lease) -> Shard | None:
        """The shard to hold in this lease's session (None: nothing), once it is known."""
        if lease.residency == "full":
            return WHOLE
        return await self._planned(lease, lambda shard: True, self._log)

    async def changed(self, lease: Lease, held: Shard | None) -> Shard | None:
        """The shard to hold in this lease's session, once it is another one."""
        return await self._planned(lease, lambda shard: shard != held)

    async def _planned(
        self, lease: Lease, good: Callable[[Shard | None], bool], log: Callable[[str], None] | None = None
    ) -> Shard | None:
        while True:
            plan = self._plan
            if plan is not None and plan.session == lease.session and self._name in plan.shards:
                shard = plan.shards[self._name]
                if (shard is None or shard[0] < shard[1]) and good(shard):
                    return shard
            if self._unread and log is not None:
                log(f"waiting for the hub's plan: what stands there is none ({self._unread})")
                log = None
            self._news.clear()
            await self._news.wait()

    def exceeds(self, shard: Shard | None) -> bool:
        """Whether more is in memory than this shard."""
        pairs = zip(self._model.resident(), masks_of_shard(self._native, self._model, shard), strict=True)
        return any(held[0] & ~wanted[0] or held[1] & ~wanted[1] for held, wanted in pairs)

    def forget(self) -> None:
        """Give all memory back; not while anything is computed."""
        self._model.forget()

    def room(self, shard: Shard | None, positions: int) -> str:
        """Raise a CellError where the shard does not fit into the memory; returns what else there is to say.

        `positions`: of the caches beside it.
        """
        weights = self._model.weight_bytes(masks_of_shard(self._native, self._model, shard), output=False)
        return self._budget.check(weights, self._model.cache_bytes(positions), self._model.held_bytes())

    async def load(self, shard: Shard | None, told: Callable[[float], None]) -> None:
        """Load the shard, or nothing but what every worker needs.

        `told` hears in the loop, each second, how much of it (0 to 1) is there. A cancelled call stops soon.
        """
        masks = masks_of_shard(self._native, self._model, shard)
        loop, stopped, next_at = asyncio.get_running_loop(), False, time.monotonic() + _TELL_S

        def progress(done: int, total: int) -> None:
            nonlocal next_at
            if stopped:
                raise _Stopped
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + _TELL_S
                loop.call_soon_threadsafe(told, done / max(total, 1))

        loading = loop.run_in_executor(self._loader, lambda: self._model.load(masks, progress, output=False))
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            stopped = True
            await asyncio.wait((loading,))
            loading.exception()  # looked at: it is what we raised
            raise

    def close(self) -> None:
        """Load no more."""
        self._loader.shutdown(wait=False, cancel_futures=True)
