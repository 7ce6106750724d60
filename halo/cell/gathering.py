"""How a hub waits for its first workers, and what it says when too few come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from halo.cell import news
from halo.cell.address import Address
from halo.cell.roster import Roster
from halo.cell.shards import HubShards
from halo.errors import CellError

_ANNOUNCE_S = 1.0
"""A device says within this time whether it serves."""
_SILENT_S = 3.0
"""One that has said nothing by then is not there, whatever profile of it the broker retains; packets may be lost."""
_TELL_S = 3.0
_TOLD = 8
"""Of more devices that refuse the user is told the number."""
_LOOK_S = 0.1
_LOADING_S = 10.0
"""A worker that loads says each second how far it is."""


@dataclass
class Gathering:
    """`wanted` workers for a session, or those that are there (None)."""

    wanted: int | None
    roster: Roster
    log: Callable[[str], None]
    cell: str
    address: Address
    shards: HubShards | None = None

    async def wait(
        self,
        patience_s: float,
        check: Callable[[], None],
        news: asyncio.Event,
        ask_again: Callable[[], Awaitable[None]],
    ) -> None:
        """Wait until there are enough, or no more to wait for; `check` is called meanwhile and may raise.

        `ask_again` publishes the lease, which every worker answers: so a lost document heals itself. Raises CellError
        when fewer than wanted have come.
        """
        loop = asyncio.get_running_loop()
        begin = told = further = loop.time()
        loading = self._loading()
        while True:
            check()
            age = loop.time() - begin
            waited = age > patience_s
            if self.shards is not None:
                await self.shards.gather(self.wanted, waited)
            if loading != (loading := self._loading()):
                further = loop.time()
            if waited and not (loading and loop.time() < further + _LOADING_S):
                break
            ready = self.roster.ready()
            if self.wanted is not None and len(ready) >= self.wanted:
                return
            settled = age > _ANNOUNCE_S and not self.roster.undecided(heard_only=age > _SILENT_S)
            if settled and (self.roster.refusals(heard_only=True) or (self.wanted is None and ready)):
                break
            if self.wanted is not None and loop.time() > told + _TELL_S:
                told = loop.time()
                self.log(f"waiting for workers: {len(ready)} of {self.wanted} ready")
                await ask_again()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await news.wait()
            news.clear()
        self._complain()

    def _loading(self) -> dict[str, float | None]:
        """Who will serve the session when it has loaded what it shall hold, and how far it is."""
        if self.shards is not None and not self.shards.is_settled:
            return {}  # they wait for others
        names = set(self.roster.serving()) - set(self.roster.ready())
        return {name: self.roster.profiles[name].loaded for name in names}

    def _complain(self) -> None:
        ready, refusals = self.roster.ready(), self.roster.refusals()
        heard = self.roster.refusals(heard_only=True)
        if len(ready) >= (self.wanted or 0) and (ready or not heard):
            for name in list(refusals)[:_TOLD]:
                self.log(news.left_out(name, refusals[name]))
            if len(refusals) > _TOLD:
                self.log(f"{len(refusals) - _TOLD} more do not take part: see 'halo devices'")
            return
        text = f"{len(ready)} of {self.wanted} workers are ready" if self.wanted else "no worker is ready"
        text += f" ({', '.join(ready)})" if ready else ""
        text += f" in the cell {self.cell!r} at {self.address}"
        if refusals:
            told = " ".join(f"{name}: {reason}" for name, reason in list(refusals.items())[:_TOLD])
            more = f" And {len(refusals) - _TOLD} more: see 'halo devices'." if len(refusals) > _TOLD else ""
            old = refusals.keys() - heard.keys()
            hint = f" {news.left_behind(self.cell, old)}" if old else ""
            raise CellError(f"Only {text}. {told}{more}{hint}")
        raise CellError(
            f"Only {text}. Start the missing ones with 'halo worker --broker {self.address} --cell "
            f"{self.cell} -m MODEL' (for another machine: with this broker's name in its network), "
            "see who is there with 'halo devices', or ask for fewer: --workers."
        )
