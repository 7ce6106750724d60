"""The lanes of one device, side by side, and which of them carry a message.

TCP keeps the order of a connection: what follows a lost packet waits for its repair, 200 ms and more where the repair
is lost too. On another connection it does not wait. So a message that is late is sent again over others, and where the
network loses much, each is sent over two from the start.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from halo.cell.address import Address
from halo.cell.connection import FIRST_ATTEMPTS_S
from halo.cell.view import running
from halo.exchange.lane import Handler, Lane

LANES = 8
"""Of each device. docs/benchmarks.md has the figures of fewer."""
COPIES = 2
"""Lanes that a message takes where it is not sent over one only."""
_OTHERS_COME_S = 1.0
_HEDGE_ABOVE, _HEDGE_NO_MORE_BELOW = 0.01, 0.004
_MEMORY = 1 / 256


class Lanes:
    """Lane i of a hub and lane i of each worker form one way: what goes in at one comes out at the other."""

    def __init__(
        self,
        address: Address,
        client_id: str,
        on_message: Handler,
        *,
        count: int = LANES,
        patience_s: float = FIRST_ATTEMPTS_S,
    ) -> None:
        # The first lane tells the user when the broker is not there; the others may come when they can.
        waits = (patience_s, *(count - 1) * (float("inf"),))
        self.lanes = [Lane(address, f"{client_id}-{i}", i, on_message, wait) for i, wait in enumerate(waits)]

    @property
    def is_up(self) -> bool:
        """Whether messages can be sent now, over one lane at least."""
        return any(lane.is_up for lane in self.lanes)

    async def wait_up(self) -> None:
        """Return when the lanes stand, or one of them does and the others let us wait."""
        waiting = [asyncio.ensure_future(lane.wait_up()) for lane in self.lanes]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(waiting, timeout=_OTHERS_COME_S)
        finally:
            for task in waiting:
                task.cancel()

    async def run(self) -> NoReturn:
        """Keep all of them up; BrokerError if the first connection of the first one cannot be made."""
        async with running(*(lane.run() for lane in self.lanes)):
            await asyncio.Event().wait()
        raise AssertionError("a lane has ended")

    def one(self, wanted: int, among: int) -> int:
        """The lane `wanted`, or, where it is in trouble, the best of the first `among`."""
        return wanted if self.lanes[wanted].trouble()[0] == 0 else self.best(1, among, wanted + 1)[0]

    def best(self, n: int, among: int, turn: int) -> list[int]:
        """`n` of the first `among` lanes: by their trouble, equal ones in turn from `turn` on."""
        return sorted(range(among), key=lambda i: (self.lanes[i].trouble(), (i - turn) % among))[:n]


class Route:
    """Over which lanes the requests to one worker go, by how many of them had to be sent again."""

    def __init__(self, lanes: Lanes, among: int) -> None:
        self.hedging = False
        """Whether each request goes over several lanes from the start."""
        self._lanes = lanes
        self._among = among
        self._lane = 0
        self._turn = 1
        self._again = 0.0  # share of the requests that were sent again, lately

    def choose(self, attempt: int) -> tuple[list[int], int]:
        """For this attempt to send a request: its lanes, and over how many the answer to each copy shall come."""
        if self._among == 1:
            return [0], 1
        if attempt < 2:
            self._again += (attempt - self._again) * _MEMORY
            self.hedging = self._again > (_HEDGE_NO_MORE_BELOW if self.hedging else _HEDGE_ABOVE)
        if attempt == 0 and not self.hedging:
            return [self._lane], 1  # one lane for all is cheapest: what arrives together is read together
        if not self.hedging:
            self._turn = self._lane + 1  # the one that was used has failed just now
        chosen = self._lanes.best(min(COPIES, self._among), self._among, self._turn)
        self._turn += len(chosen)
        self._lane = chosen[0]
        return chosen, COPIES

    def was_needless(self) -> None:
        """What was sent again had only been late: a busy device, which more messages would not make faster."""
        self._again = max(0.0, self._again - _MEMORY)
