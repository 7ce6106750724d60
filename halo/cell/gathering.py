"""How a hub waits for its first workers, and what it says when too few come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from halo.cell.address import Address
from halo.cell.roster import Roster
from halo.errors import CellError

_ANNOUNCE_S = 1.0
"""A device says within this time whether it serves."""
_TELL_S = 3.0
_LOOK_S = 0.1


@dataclass
class Gathering:
    """`wanted` workers for a session, or those that are there (None)."""

    session: str
    wanted: int | None
    roster: Roster
    log: Callable[[str], None]
    cell: str
    address: Address

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
        begin = told = loop.time()
        while loop.time() < begin + patience_s:
            check()
            ready, refusals = self.roster.ready(self.session), self.roster.refusals()
            if self.wanted is not None and len(ready) >= self.wanted:
                return
            settled = not self.roster.undecided(self.session) and loop.time() > begin + _ANNOUNCE_S
            if settled and (refusals or (self.wanted is None and ready)):
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

    def _complain(self) -> None:
        ready, refusals = self.roster.ready(self.session), self.roster.refusals()
        if len(ready) >= (self.wanted or 0) and (ready or not refusals):
            for refusal in refusals:
                self.log(f"not taking part: {refusal}")
            return
        text = f"{len(ready)} of {self.wanted} workers are ready" if self.wanted else "no worker is ready"
        text += f" ({', '.join(ready)})" if ready else ""
        text += f" in the cell {self.cell!r} at {self.address}"
        if refusals:
            raise CellError(f"Only {text}. " + " ".join(refusals))
        raise CellError(
            f"Only {text}. Start the missing ones with 'halo worker --broker {self.address} --cell "
            f"{self.cell} -m MODEL' (for another machine: with this broker's name in its network), "
            "see who is there with 'halo devices', or ask for fewer: --workers."
        )
