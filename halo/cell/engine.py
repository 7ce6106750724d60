"""The engine that a front end drives: the native one, with members that come and go while it computes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from halo.cell.ledger import Ledger
from halo.cell.native import Native, NativeEngine, Relay
from halo.errors import CellError, HaloError
from halo.quality import EXACT, Quality, QualityControl

T = TypeVar("T")


class Membership:
    """What the engine asks about the cell, from any thread. This one is a hub alone."""

    @property
    def relay(self) -> Relay | None:
        """What exchanges messages with the members; None where there can be none."""
        return None

    @property
    def failure(self) -> CellError | None:
        """Why this hub may not go on."""
        return None

    def names(self) -> list[str]:
        """The workers that take part now."""
        return []

    def name(self, index: int) -> str | None:
        """The worker at an index of the relay."""
        return None

    def settle(self, stats: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Everything counted so far, by device name; `stats` is the engine's."""
        return Ledger().with_running(stats(), {})

    def reset(self) -> None:
        """Begin to count anew."""

    def devices(self) -> dict[str, dict[str, Any]]:
        """How the workers stand and are reached, by name."""
        return {}


class CellEngine:
    """Answers to `halo.engine.Engine`. Workers that go meanwhile cost time, and neither an error nor a position."""

    def __init__(
        self, native: Native, engine: NativeEngine, members: Membership, quality: QualityControl | None = None
    ) -> None:
        self._native = native
        self._engine = engine
        self._members = members
        self._quality = quality
        self._closed = False
        self._busy = threading.RLock()
        if members.relay is not None:
            engine.attach(members.relay)

    @property
    def n_ctx(self) -> int:
        return self._engine.n_ctx

    @property
    def n_vocab(self) -> int:
        return self._engine.n_vocab

    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = False) -> NDArray[np.float32]:
        """Append tokens; CellError when another hub has taken the cell, HaloError for a cancelled or failed one."""
        with self._busy:
            self._check()
            return self._mapped(lambda: self._engine.forward(slot, tokens, all_logits))

    def truncate(self, slot: int, n: int) -> None:
        """Keep the first `n` positions of the slot."""
        with self._busy:
            self._check()
            self._mapped(lambda: self._engine.truncate(slot, n))

    def n_past(self, slot: int) -> int:
        """Positions that the slot holds."""
        with self._busy:
            self._check()
            return self._engine.n_past(slot)

    def cancel(self) -> None:
        """Make a running `forward` raise; from any thread."""
        self._engine.cancel()

    def probe(self, payload: int, reply_bytes: int, syncs: int) -> list[float]:
        """Seconds of so many syncs without computing, in which every worker must answer; CellError if one does not."""
        with self._busy:
            self._check()
            relay = self._members.relay
            if relay is None or not self._members.names():
                raise CellError("There is no worker to exchange messages with. Start some: --workers 2.")
            return self._mapped(lambda: relay.probe(payload, reply_bytes, syncs))

    def set_plan(self, plan: str, hub_share: float | None = None) -> None:
        """Who computes what, from the next token on: `auto` or `even`, as in `Cell.open`."""
        with self._busy:
            self._engine.set_plan(plan, hub_share)

    @property
    def quality(self) -> Quality:
        """What is used, which may be less than what was asked for."""
        return EXACT if self._quality is None else self._quality.used

    def set_quality(self, wish: str | float | None) -> Quality:
        """How much may be late, from the next token on (`halo.quality`); returns what is used. ValueError for a wish
        that cannot be."""
        with self._busy:
            return EXACT if self._quality is None else self._quality.set(wish)

    def quality_report(self) -> dict[str, Any] | None:
        """What was used, and how much was late (`QualityControl.report`); None where nothing is ever late."""
        return None if self._quality is None else self._quality.report(self._engine.stats())

    def pace(self, per_request_us: int, per_group_us: int) -> None:
        """Let the hub's own share of a sync take at least so long, and so long for each group (for measurements)."""
        self._engine.pace(per_request_us, per_group_us)

    def stats(self) -> dict[str, Any]:
        """What the native engine counts."""
        return self._engine.stats()

    def settle(self) -> dict[str, Any]:
        """Everything counted so far, by device name."""
        return self._members.settle(self._engine.stats)

    def reset_stats(self) -> None:
        """Begin to count anew."""
        self._members.reset()
        self._engine.reset_stats()

    def close(self) -> None:
        """Stop a running `forward` and refuse later ones."""
        self._closed = True
        self._engine.cancel()
        if self._busy.acquire(timeout=1):
            self._busy.release()

    def _check(self) -> None:
        if self._closed:
            raise CellError("The cell is closed: open it again to go on.")
        if self._members.failure is not None:
            raise self._members.failure

    def _mapped(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except self._native.WorkerLost as error:
            name = self._members.name(getattr(error, "worker", -1))
            raise CellError(
                f"{'A worker' if name is None else f'The worker {name!r}'} did not answer while it was measured: "
                f"{error}. Look at that device's power, network and log."
            ) from None
        except self._native.Interrupted:
            raise self._members.failure or HaloError("The computation was cancelled.") from None
        except self._native.NativeError as error:
            raise self._members.failure or HaloError(f"The engine failed: {error}") from error
