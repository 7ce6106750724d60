"""Types of the native module; the files of native/bindings/ say what each does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROTOCOL: int

_Tables = Sequence[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]
"""By layer: mean (groups, d), predictor (groups, d), bias (groups), significance (groups)."""

def explain_bus_errors(text: str) -> None:
    """From now on a bus error writes this text to standard error and ends the process with exit code 1."""

class NativeError(RuntimeError): ...

class WorkerLost(NativeError):
    worker: int

class Interrupted(NativeError): ...

class Model:
    def __init__(
        self,
        files: Sequence[Any],
        spec: Mapping[str, Any],
        tensors: Mapping[str, tuple[int, int, int, int]],
        head_groups: Sequence[Sequence[int]],
        neuron_groups: Sequence[Sequence[int]],
        converted: Mapping[str, Callable[[int, int, int, int], bytes]] = ...,
    ) -> None:
        """`converted`: what makes (row, rows, column, columns) of tensors, in the type that the table has."""
    def load(
        self,
        masks: Sequence[tuple[int, int]] | None = None,
        progress: Callable[[int, int], object] | None = None,
        *,
        output: bool = True,
    ) -> None:
        """Pack groups: (attention mask, MLP mask) of each layer, None: all; and, with `output`, the head.

        What is not loaded is packed when it is first computed. `progress(done, total)` gets bytes, a few times a
        second; what it raises stops the loading, and what is there stays. May run beside computing.
        """
    def forget(self) -> None:
        """Give all packed weights back; nobody may compute meanwhile."""
    def weight_bytes(self, masks: Sequence[tuple[int, int]], *, output: bool = True) -> int:
        """What these groups and, with `output`, the head take in memory, whether they are there or not."""
    def held_bytes(self) -> int:
        """What of the weights is packed in memory now."""
    def cache_bytes(self, positions: int) -> int:
        """What keys and values of so many positions take."""
    def resident(self) -> list[tuple[int, int]]:
        """The groups in memory."""

class Engine:
    def __init__(
        self, model: Model, n_ctx: int, n_slots: int = 1, threads: int = 1, partials: str = "fixed"
    ) -> None: ...
    @property
    def n_ctx(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    def forward(
        self, slot: int, tokens: NDArray[np.int32] | Sequence[int], all_logits: bool = False
    ) -> NDArray[np.float32]: ...
    def truncate(self, slot: int, n: int) -> None: ...
    def n_past(self, slot: int) -> int: ...
    def cancel(self) -> None: ...
    def attach(self, relay: Relay | None) -> None: ...
    def observe(self, observer: Observer | None) -> None:
        """Show what the MLP groups of this device give to the observer; not while `forward` runs."""
    def set_tolerance(self, tables: _Tables | None) -> None:
        """What a sidecar knows of this model's MLP groups; the quality is exact until `set_quality`.

        ValueError: shapes, types or values that cannot be, or of another grid. Like the two below it is called between
        two `forward`, and holds from the next token on.
        """
    def set_quality(self, share: float, planned: bool = False) -> None:
        """The share (0 to 1) of each layer's MLP groups that may be late; planned: they always are.

        It concerns calls of `forward` with one token. ValueError beyond 0 to 1, and above 0 without tables.
        """
    def inject_lateness(
        self,
        probability: float,
        seed: int = 0,
        fade_syncs: float = 0.0,
        devices: int = 4,
        drop: str = "correct",
        any_group: bool = False,
    ) -> None:
        """Let tolerant groups that the hub computes be late, as if other devices had them; probability 0: no more.

        Each by itself, or, with `fade_syncs`, all groups of one of so many devices, each of which fades by itself, for
        so many syncs in the mean and that share of the time. `drop`: correct (the mean now, the correction at the next
        sync), mean (never corrected) or zero (neither). `any_group`: critical groups of relaxed syncs as well.
        """
    def set_plan(self, plan: str, hub_share: float | None = None, seed: int = 0) -> None: ...
    def pace(self, per_request_us: int, per_group_us: int = 0) -> None: ...
    def stats(self) -> dict[str, Any]:
        """Counts; of them "tolerance": {"mlp_groups", "tolerant_groups", "late_groups", "corrected_groups",
        "forced_groups" (tolerant only because nobody reliable holds them), "late_weight", "mlp_syncs"}, MLP group
        results of calls with one token, without those of empty groups."""
    def reset_stats(self) -> None: ...

class LinearSignificance:
    def __init__(self, tables: _Tables) -> None: ...
    def predict(self, layer: int, normed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (groups) of a normed layer input (d)."""

class Lateness:
    """Draws which groups are late; see `Engine.inject_lateness`."""

    def __init__(self, probability: float, seed: int = 0, fade_syncs: float = 0.0, devices: int = 4) -> None: ...
    def tick(self) -> None:
        """A sync passes."""
    def draw(self, groups: int) -> int:
        """Which groups of this mask are late now."""

class Observer:
    """Who looks at the outputs of MLP groups, one by one; position 0 is left out."""

class MeanPass(Observer):
    """Adds to arrays that the caller owns, per layer: outputs (groups, d), squared norms (groups), inputs (d); f64."""

    def __init__(self, model: Model, layers: Sequence[Sequence[NDArray[Any]]]) -> None: ...

class DistancePass(Observer):
    """Writes the layer input of each token, and how far each group's output is from its mean.

    Per layer, f32: means (groups, d); and, written, inputs (tokens, d), distances (tokens, groups). Tokens for which
    there is no room are left out.
    """

    def __init__(self, model: Model, layers: Sequence[Sequence[NDArray[Any]]], tokens: int) -> None: ...
    def rewind(self) -> int:
        """Tokens written; begins again with the first."""

class Relay:
    def __init__(
        self,
        session: int,
        post: Callable[[list[tuple[int, int, bytes]]], None],
        *,
        max_message: int = 65536,
        re_request_s: float | None = None,
        patience_s: float = 4.0,
        stand_ins: bool = True,
        correct: bool = True,
    ) -> None: ...
    def open_datagrams(self, own: KeyPair, only: bool) -> None: ...
    def join(
        self,
        offer: tuple[bytes, str, str, Sequence[tuple[str, int]]] | None,
        *,
        resident: Sequence[tuple[int, int]] | None = None,
    ) -> int: ...
    def leave(self, worker: int, reason: str) -> None: ...
    def rejoin(self, worker: int) -> None: ...
    def forget(self, worker: int) -> dict[str, Any]: ...
    def set_resident(self, worker: int, masks: Sequence[tuple[int, int]]) -> None: ...
    def members(self) -> list[dict[str, Any] | None]: ...
    def links(self) -> list[dict[str, Any] | None]: ...
    def update_candidates(self, worker: int, candidates: Sequence[tuple[str, int]]) -> None: ...
    def deliver(self, worker: int, message: bytes) -> bool: ...
    def probe(self, payload: int, reply_bytes: int, syncs: int = ...) -> list[float]: ...
    def strays(self) -> dict[str, int]: ...

class KeyPair:
    """An X25519 key pair; the secret part stays inside."""

    def __init__(self) -> None: ...
    @property
    def public(self) -> bytes: ...
    def check(self, peer: bytes) -> None:
        """Raises where no keys can be agreed on with the owner of this public key."""

class DatagramWorker:
    """A worker's datagrams: a socket and two threads."""

    def __init__(self, worker: Worker, port: int = 0) -> None: ...
    @property
    def port(self) -> int: ...
    def serve(self, own: KeyPair, hub: bytes, session: int, incarnation: str, cipher: str) -> None: ...
    def close(self) -> None: ...
    def link(self) -> dict[str, Any]: ...

class Worker:
    def __init__(self, model: Model, threads: int = 1) -> None: ...
    def set_pace(self, per_request_us: int, per_group_us: int = 0) -> None: ...
    def open(self, session: int, n_ctx: int, n_slots: int) -> None: ...
    def close(self) -> None: ...
    def accept(self, message: bytes) -> tuple[str, bytes]: ...
    def compute(self, message: bytes) -> bytes: ...
    def stats(self) -> dict[str, int]: ...

class Matrix:
    """A weight matrix packed for one kernel variant."""

    def prepare(self, x: NDArray[np.float32]) -> NDArray[np.uint8]: ...
    def multiply(self, x: NDArray[np.uint8], row_begin: int, y: NDArray[np.float32]) -> None: ...

class Kernels:
    """The kernels of one variant, for tests and benchmarks."""

    def __init__(self, isa: str) -> None: ...
    def pack(self, type: int, rows: int, columns: int, data: Any) -> Matrix: ...
    def quantize(self, format: int, x: NDArray[np.float32]) -> bytes: ...
    def prepare(self, format: int, n: int, data: bytes) -> NDArray[np.uint8]: ...
    def silu_mul(self, gate: NDArray[np.float32], up: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def attention(
        self, q: NDArray[np.float32], k: NDArray[np.uint16], v: NDArray[np.uint16], first: int
    ) -> NDArray[np.float32]: ...
    def add_fixed(
        self, y: NDArray[np.float32], scale: float, limit: float
    ) -> tuple[bool, float, NDArray[np.int32]]: ...

class Candidate:
    """A device as an assigner sees it at one sync; times are microseconds."""

    def __init__(
        self,
        *,
        takes: bool = True,
        slow: bool = False,
        resident: int = ...,
        start_us: float = 0.0,
        group_us: float = 1.0,
        cost_us: float = 0.0,
        lateness: float = 0.0,
        unstable: bool = False,
    ) -> None: ...

class Assigner:
    """Spreads the groups of a sync over the devices; the hub is the first."""

    def assign(self, layer: int, part: str, groups: int, rows: int, candidates: Sequence[Candidate]) -> list[int]: ...

def place(scores: Sequence[float], candidates: Sequence[Candidate], masks: Sequence[int]) -> list[int]:
    """The masks after exchanges that leave the lowest scores (groups) with the least reliable devices."""

def place_planned(layer: int, groups: int, tolerant: int, candidates: Sequence[Candidate]) -> list[int]:
    """The masks where the hub waits for nobody: it has what is not tolerant."""

def held_unreliably(candidates: Sequence[Candidate], groups: int) -> int:
    """The groups that only unreliable devices hold."""

def may_be_late(tolerant: int, planned: bool, candidates: Sequence[Candidate], masks: Sequence[int]) -> int:
    """The workers, as bits, whose requests may be late."""

class EvenAssigner(Assigner):
    def __init__(self, hub_share: float | None = None) -> None: ...

class BalancedAssigner(Assigner):
    def __init__(self) -> None: ...

class RandomAssigner(Assigner):
    def __init__(self, seed: int) -> None: ...

class Speed:
    """How long a device computes so many groups, learned from what it took."""

    def __init__(self) -> None: ...
    def sample(self, kind: int, groups: int, took_us: float) -> None: ...
    def predict(self, kind: int, groups: int) -> float: ...
    def start_us(self, kind: int) -> float: ...
    def group_us(self, kind: int) -> float: ...
    def known(self, kind: int) -> bool: ...
    def factor(self) -> float: ...

class Deadline:
    """How long an overdue answer is waited for before a stand-in computes it."""

    def __init__(self) -> None: ...
    def sample(self, error_us: float) -> None: ...
    def allowance(self, predicted_us: float, stand_in_us: float) -> float: ...

def kind_of(part: str, rows: int) -> int: ...
def encode_f16(values: NDArray[np.float32]) -> tuple[int, bytes]: ...
def add_f16(values: bytes, exponent: int, sum: NDArray[np.float32]) -> tuple[bool, NDArray[np.float32]]: ...
def dequantize(type: int, row: bytes) -> NDArray[np.float32]: ...

class Readable:
    """Memory to be read as fast as one thread can, as equal parts side by side."""

    def __init__(self, bytes: int) -> None: ...
    def read(self, streams: int, ahead: int) -> int: ...

def vec_dots(function: int, n: int, w: Any, x: Any, y: NDArray[np.float32]) -> None: ...
def time_assign(
    assigner: Assigner,
    groups: int,
    situations: Sequence[Sequence[Candidate]],
    times: int,
    scores: Sequence[float] = (),
) -> float: ...
def shard_masks(model: Model, index: int, of: int) -> list[tuple[int, int]]:
    """The groups of an even shard: (attention mask, MLP mask) of each layer; each group is in exactly one of them."""

def share_masks(model: Model, share: float) -> list[tuple[int, int]]:
    """The first groups of each layer, `share` of all over the layers."""

def weight_types() -> dict[str, tuple[int, int, int]]: ...
def isa() -> str: ...
def variants() -> list[str]: ...
def parity(data: list[bytes], index: int) -> bytes: ...
def restore(fragments: list[bytes | None], k: int, bytes: int) -> list[bytes] | None: ...
def field_ways() -> list[str]: ...
def field_multiply_add(isa: str, factor: int, in_: bytes, out: bytes) -> bytes: ...
def sealing_unavailable() -> str | None: ...
def ciphers() -> list[str]: ...
def has_aes() -> bool: ...
def make_key_pair() -> tuple[bytes, bytes]: ...
def open_key_of(secret: bytes) -> bytes: ...
def derive_keys(secret: bytes, peer: bytes, session: int, incarnation: str) -> dict[str, Any]: ...

class Sealer:
    """Seals and opens packets of one direction."""

    def __init__(self, cipher: int, key: bytes, iv: bytes) -> None: ...
    def seal(self, number: int, aad: bytes, data: bytes, in_place: bool = False) -> bytes: ...
    def open(self, number: int, aad: bytes, data: bytes, in_place: bool = False) -> bytes | None: ...

class Channel:
    """One end of a link: messages in, datagrams out, and back. Times are microseconds."""

    MAX_MESSAGE: int
    def __init__(
        self, channel: int, cipher: int, out_key: bytes, out_iv: bytes, in_key: bytes, in_iv: bytes
    ) -> None: ...
    def send(self, message: bytes, now: int) -> list[bytes]: ...
    def ping(self, now: int) -> list[bytes]: ...
    def receive(self, datagram: bytes, now: int) -> tuple[list[bytes], str]: ...
    def work(self, now: int) -> list[bytes]: ...
    def next_work(self) -> int | None: ...
    def counters(self) -> dict[str, int]: ...
    def report(self) -> dict[str, Any]: ...

class ReplayWindow:
    """Which packet numbers have been received."""

    SIZE: int
    def is_new(self, number: int) -> bool: ...
    def mark(self, number: int) -> None: ...
    @property
    def highest(self) -> int: ...
