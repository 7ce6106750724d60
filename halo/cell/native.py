"""The native module and an open model, as the control plane uses them (tests bring their own)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from halo.cell.messages import NamedModel

if TYPE_CHECKING:  # only: a worker does without numpy, which takes 10 MB
    import numpy as np
    from numpy.typing import NDArray

Post = Callable[[list[tuple[int, int, bytes]]], None]
"""Takes messages to send: (index, attempt, message); attempt 0 is the first."""
Masks = list[tuple[int, int]]
"""Groups: (attention mask, MLP mask) of each layer."""
Tables: TypeAlias = (
    "Sequence[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]"
)
"""A sidecar's, by layer: mean (groups, d), predictor (groups, d), bias (groups), significance (groups)."""
DatagramOffer = tuple[bytes, str, str, list[tuple[str, int]]]
"""A worker's public key, incarnation, cipher, and the addresses and ports where it may be."""


class OpenModel(NamedModel, Protocol):
    """What `halo.model.open_model` returns, as far as the control plane looks at it."""

    @property
    def native(self) -> Any: ...
    @property
    def types(self) -> str: ...
    @property
    def size(self) -> int: ...


class Relay(Protocol):
    """One session's exchange with its members, each at an index of its own; Python carries their messages over MQTT.

    All but `deliver`, `members`, `links` and `probe` are called in the hub's loop only.
    """

    def open_datagrams(self, own: Any, only: bool) -> None:
        """Open the socket, before the first member joins; NativeError where the system gives none."""

    def join(self, offer: DatagramOffer | None, *, resident: Masks | None = None) -> int:
        """A worker takes part from the next sync on; returns its index."""

    def leave(self, index: int, reason: str) -> None:
        """It is asked nothing any more, and what it owes is computed by others; its link and keys are kept."""

    def rejoin(self, index: int) -> None:
        """The same process, with the same keys and caches, is back."""

    def forget(self, index: int) -> dict[str, Any]:
        """Give up the index, and what belongs to it; returns what was counted, as in the engine's `stats`."""

    def members(self) -> list[dict[str, Any] | None]:
        """By index (None: free): {"state", "reason", "for_s", "cache", "owed"}."""

    def links(self) -> list[dict[str, Any] | None]:
        """By index (None: free): what is known of the way to it."""

    def update_candidates(self, index: int, candidates: list[tuple[str, int]]) -> None: ...
    def deliver(self, index: int, message: bytes) -> bool:
        """Returns whether this answer shows that its request was sent again needlessly."""

    def set_resident(self, index: int, masks: Masks) -> None:
        """What this worker holds in memory: it is asked for nothing else."""

    def probe(self, payload: int, reply_bytes: int, syncs: int) -> list[float]:
        """Seconds of so many syncs without computing; the one call that raises WorkerLost."""


class NativeEngine(Protocol):
    """The native forward pass."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = ...) -> NDArray[np.float32]: ...
    def truncate(self, slot: int, n: int) -> None: ...
    def n_past(self, slot: int) -> int: ...
    def cancel(self) -> None: ...
    def attach(self, relay: Any) -> None: ...
    def set_plan(self, name: str, hub_share: float | None = ..., seed: int | None = ...) -> None: ...
    def pace(self, per_request_us: int, per_group_us: int) -> None: ...
    def set_tolerance(self, tables: Tables | None) -> None:
        """A sidecar's tables (None: none), or ValueError; the quality is exact until `set_quality`."""

    def set_quality(self, share: float, planned: bool = ...) -> None:
        """The share (0 to 1) of MLP groups that may be late, from the next token on; above 0 it needs tables."""

    def inject_lateness(
        self,
        probability: float,
        seed: int = ...,
        fade_syncs: float = ...,
        devices: int = ...,
        drop: str = ...,
        any_group: bool = ...,
    ) -> None:
        """Let groups of the hub's own be late in relaxed syncs, for measurements; probability 0: no more."""

    def stats(self) -> dict[str, Any]:
        """From any thread, beside a running `forward`."""

    def reset_stats(self) -> None: ...


class NativeWorker(Protocol):
    """The native worker; `accept` and `set_pace` may be called beside `compute`, the others may not."""

    def set_pace(self, per_request_us: int, per_group_us: int) -> None: ...
    def open(self, session: int, n_ctx: int, n_slots: int) -> None: ...
    def close(self) -> None: ...
    def accept(self, message: bytes) -> tuple[str, bytes]: ...
    def compute(self, message: bytes) -> bytes: ...
    def stats(self) -> dict[str, Any]: ...


class Native(Protocol):
    """The module `halo._native`."""

    @property
    def NativeError(self) -> type[Exception]: ...
    @property
    def WorkerLost(self) -> type[Exception]: ...
    @property
    def Interrupted(self) -> type[Exception]: ...
    def Engine(
        self, model: Any, n_ctx: int, n_slots: int = ..., threads: int = ..., partials: str = ...
    ) -> NativeEngine: ...
    def Relay(self, session: int, post: Post, *, re_request_s: float | None = ...) -> Relay: ...
    def Worker(self, model: Any, threads: int = ...) -> NativeWorker: ...
    def KeyPair(self) -> Any: ...
    def DatagramWorker(self, worker: NativeWorker, port: int = ...) -> Any: ...
    def shard_masks(self, model: Any, index: int, of: int) -> Masks: ...
    def share_masks(self, model: Any, share: float) -> Masks: ...
    def sealing_unavailable(self) -> str | None: ...
    def ciphers(self) -> list[str]: ...
    def isa(self) -> str: ...


def load() -> Native:
    """The real one."""
    return cast(Native, import_module("halo._native"))


Command = Sequence[str]
