"""The engine that a front end drives: the native one, with a membership that may change between tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from halo.cell.ledger import Ledger
from halo.cell.native import Native, NativeEngine
from halo.cell.session import Formation, describe
from halo.errors import BrokerError, CellError, HaloError, WorkerLostError

T = TypeVar("T")


_ALONE = Formation("", [], None)


class Membership:
    """What the engine asks about the cell. This one is a hub alone, whose membership never changes."""

    @property
    def formation(self) -> Formation:
        """The workers of the present session."""
        return _ALONE

    @property
    def loss_waits(self) -> bool:
        """A worker is gone, and the others have not formed anew."""
        return False

    @property
    def joiner_waits(self) -> bool:
        """A worker has come that does not take part yet."""
        return False

    @property
    def failure(self) -> CellError | None:
        """Why this hub may not go on."""
        return None

    def form_again(self) -> Formation:
        """Form a session with the workers that are there now."""
        return self.formation

    def links(self) -> dict[str, dict[str, Any]]:
        """How the workers of the present session are reached, by name."""
        return {}

    def suspect(self, name: str, reason: str) -> None:
        """A worker did not answer."""

    def expel(self, name: str, reason: str) -> None:
        """A worker's answers cannot be used."""

    def broker_failure(self) -> str | None:
        """What is wrong with the broker, if anything is."""
        return None


class CellEngine:
    """Answers to `halo.engine.Engine`.

    A lost worker costs the caches: `n_past` is 0 after it, and the caller replays what it had.
    """

    def __init__(self, native: Native, engine: NativeEngine, slots: int, members: Membership) -> None:
        self._native = native
        self._engine = engine
        self._slots = range(slots)
        self._members = members
        self._closed = False
        self._busy = threading.RLock()
        self.ledger = Ledger()
        self._attach(members.formation)

    @property
    def n_ctx(self) -> int:
        return self._engine.n_ctx

    @property
    def n_vocab(self) -> int:
        return self._engine.n_vocab

    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = False) -> NDArray[np.float32]:
        """Append tokens; a worker that goes meanwhile raises WorkerLostError; the next try does without."""
        with self._busy:
            self._check()
            if (self._members.loss_waits or self._members.joiner_waits) and self._is_empty():
                self._form_again()
            return self._mapped(lambda: self._engine.forward(slot, tokens, all_logits))

    def truncate(self, slot: int, n: int) -> None:
        """Keep the first `n` positions of the slot."""
        with self._busy:
            self._check()
            self._mapped(lambda: self._engine.truncate(slot, n))

    def n_past(self, slot: int) -> int:
        """Positions that the slot holds: 0 after a loss, because the cell is formed anew here."""
        with self._busy:
            self._check()
            if self._members.loss_waits:
                self._form_again()
            return self._engine.n_past(slot)

    def cancel(self) -> None:
        """Make a running `forward` raise; from any thread."""
        self._engine.cancel()

    def probe(self, payload: int, reply_bytes: int, syncs: int) -> list[float]:
        """Seconds of so many syncs without computing."""
        with self._busy:
            self._check()
            relay = self._members.formation.relay
            if relay is None:
                raise CellError("There is no worker to exchange messages with. Start some: --workers 2.")
            return self._mapped(lambda: relay.probe(payload, reply_bytes, syncs))

    def pace(self, per_request_us: int, per_group_us: int) -> None:
        """Let the hub's own share of a sync take at least so long, and so long for each group (for measurements)."""
        self._engine.pace(per_request_us, per_group_us)

    def settle(self) -> dict[str, Any]:
        """Everything counted so far, by device name."""
        return self.ledger.with_running(self._engine.stats(), self._members.formation.names)

    def reset_stats(self) -> None:
        """Begin to count anew."""
        self.ledger = Ledger()
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

    def _is_empty(self) -> bool:
        return all(self._engine.n_past(slot) == 0 for slot in self._slots)

    def _form_again(self) -> None:
        formation = self._members.form_again()
        self.ledger.add(self._engine.stats(), self._attached)
        self._engine.reset_stats()
        for slot in self._slots:
            self._engine.truncate(slot, 0)
        self._attach(formation)

    def _attach(self, formation: Formation) -> None:
        self._attached = formation.names
        self._engine.attach(formation.relay)

    def _mapped(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except self._native.WorkerLost as error:
            raise self._loss(error) from None
        except self._native.Interrupted:
            raise HaloError("The computation was cancelled.") from None
        except self._native.NativeError as error:
            raise self._members.failure or HaloError(f"The engine failed: {error}") from error

    def _loss(self, error: Exception) -> HaloError:
        if self._members.failure is not None:
            return self._members.failure
        index = getattr(error, "worker", -1)
        names = self._attached
        if not 0 <= index < len(names):
            return WorkerLostError(f"A worker was lost: {error}")
        name = names[index]
        formation = self._members.formation
        if getattr(error, "expelled", False):
            self._members.expel(name, str(error))
        elif name not in formation.losses:
            if (failure := self._members.broker_failure()) is not None:
                return BrokerError(
                    f"{failure}. Is it running? Can this machine reach it? Ask again when it is back: the workers, "
                    "which nobody can hear without it, are looked for anew."
                )
            self._members.suspect(name, str(error))
        reason = formation.losses.get(name, str(error))
        left = [n for n in names if n not in formation.losses]
        return WorkerLostError(
            f"The worker {name!r} was lost in the middle of a token: {reason}. Ask again: {describe(left)} "
            "will go on, without it. If it happens often, look at that device's power, network and log."
        )
