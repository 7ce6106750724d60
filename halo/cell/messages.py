"""The control documents: small JSON texts, strictly decoded, because anyone on the broker can send one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from halo import __version__
from halo.words import clean

PROTOCOL = 3
MAX_DOCUMENT = 64 * 1024
"""Bytes; a longer payload on a control topic is not even parsed."""

_HEX64 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_SHA256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_NAME = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
# These are printed on other people's terminals: no control characters, so no escape sequences.
# And nothing that ends a line or turns the direction of writing.
_SEEN = r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z"
_TEXT = Annotated[str, Meta(max_length=2000, pattern=_SEEN)]
_LONGEST_NAME, _LONGEST_FILE = 200, 255
Partials = Literal["fixed", "f32", "f16"]
Residency = Literal["full", "shards"]
_COUNT = Annotated[int, Meta(ge=0, le=2**53)]
_LANES = Annotated[int, Meta(ge=1, le=64)]
_SIZE = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class NamedModel(Protocol):
    """As much of a model as tells which one it is."""

    @property
    def identity(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...


class ModelId(Struct, frozen=True):
    """Which model: `identity` (SHA-256 of header and tensor table) and `content` (of samples of the weights; empty:
    not known) decide, the names are for people."""

    identity: _SHA256
    name: Annotated[str, Meta(max_length=_LONGEST_NAME, pattern=_SEEN)]
    file: Annotated[str, Meta(max_length=_LONGEST_FILE, pattern=_SEEN)]
    content: Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""

    @classmethod
    def of(cls, model: NamedModel) -> ModelId:
        """With names cut and cleaned to what a document may carry."""
        name, file = clean(model.name, _LONGEST_NAME), clean(model.path.name, _LONGEST_FILE)
        return cls(model.identity, name, file, model.content)

    def is_same(self, other: ModelId) -> bool:
        """Whether the two compute the same, as far as is known."""
        contents = {self.content, other.content} - {""}
        return self.identity == other.identity and len(contents) < 2


_PORT = Annotated[int, Meta(ge=1, le=65535)]
_ADDRESS = Annotated[str, Meta(max_length=45, pattern=r"\A[0-9a-fA-F:.]+\Z")]
_SHARE = Annotated[float, Meta(ge=0, le=1)]
_AMOUNT = Annotated[float, Meta(ge=0)]
_INDEX = Annotated[int, Meta(ge=0, le=64)]
Shard = tuple[_INDEX, _INDEX]
"""(index, of): one of that many even shards of every layer."""


class Sealing(Struct, frozen=True, kw_only=True):
    """How a device seals datagrams: an X25519 public key in hex, and ciphers by name."""

    key: _SHA256
    ciphers: Annotated[list[_TEXT], Meta(max_length=8)]


class DatagramPlace(Sealing, frozen=True, kw_only=True):
    """Where a worker takes datagrams: a UDP port and numeric addresses."""

    port: _PORT
    addresses: Annotated[list[_ADDRESS], Meta(max_length=8)]


class Lease(Struct, frozen=True, kw_only=True):
    """`halo/<cell>/hub`, retained: the hub, its version of HALO, and the session that workers shall serve."""

    protocol: Literal[3] = 3
    session: _HEX64
    hub: _NAME
    model: ModelId
    n_ctx: _SIZE
    slots: _SIZE
    partials: Partials
    halo: _TEXT = ""
    lanes: _LANES = 1
    residency: Residency = "full"
    since: Annotated[float, Meta(ge=0)]
    datagrams: Sealing | None = None


class Beat(Struct, frozen=True, kw_only=True):
    """`halo/<cell>/hub/beat`, each second: the holder of the lease is alive."""

    protocol: Literal[3] = 3
    session: _HEX64


class Profile(Struct, frozen=True, kw_only=True):
    """`halo/<cell>/device/<name>/profile`, retained: what a worker is and what it is doing.

    `halo`: its version. `shard`: what it holds in a cell whose workers hold shards; `loaded`: how much of what it
    shall hold is there.
    """

    protocol: Literal[3] = 3
    name: _NAME
    incarnation: _HEX64
    halo: _TEXT = ""
    isa: _TEXT
    threads: _COUNT
    cores: _COUNT
    memory_bytes: _COUNT
    exchanges: Annotated[list[_TEXT], Meta(max_length=16)]
    lanes: _LANES = 1
    model: ModelId | None
    session: Annotated[str, Meta(pattern=r"\A([0-9a-f]{16})?\Z")]
    state: Literal["idle", "loading", "ready", "refused"]
    reason: _TEXT
    shard: Shard | None = None
    loaded: _SHARE | None = None
    datagrams: DatagramPlace | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """`halo/<cell>/plan`, retained: what each worker shall hold in memory, where they hold shards; null: nothing."""

    protocol: Literal[3] = 3
    session: _HEX64
    shards: Annotated[dict[_NAME, Shard | None], Meta(max_length=512)]


class Link(Struct, frozen=True, kw_only=True):
    """What the hub measures of the way to one worker; times in ms, losses as shares, goodput in bytes per second.

    `repairs` (fragments that the worker asked for again) and `timeouts` (messages of which the hub heard nothing in
    time) are counted since the session began. Where no datagrams come from the worker, nothing is known but
    the transport and, unless the user wanted it so, the `reason`.
    """

    name: _NAME
    transport: Literal["udp", "mqtt"]
    address: _TEXT = ""
    cipher: _TEXT = ""
    rtt_ms: _AMOUNT | None = None
    jitter_ms: _AMOUNT | None = None
    loss_to: _SHARE | None = None
    loss_from: _SHARE | None = None
    goodput: _COUNT | None = None
    repairs: _COUNT = 0
    timeouts: _COUNT = 0
    reason: _TEXT = ""


LATE_BELOW_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Bounds of the counts of late requests by how late they were; the last count is of what was later than all."""
Standing = Literal["stable", "probation", "away", "gone", "expelled"]


class Work(Struct, frozen=True, kw_only=True):
    """What one device has done since the session began, and how it stands; the hub (`hub`) is one, too.

    `share` is its part of all group results, `late` its late requests by how late (`LATE_BELOW_MS`), `never` those that
    were never answered, `stand_ins` those that somebody else computed, `tolerant` those that could be late, and
    `filled` those for which means were added. `cache` is the part of the present sequence that it has; `for_s` tells
    how long the `state` lasts.
    """

    name: _NAME
    state: Standing = "stable"
    reason: _TEXT = ""
    for_s: _AMOUNT = 0
    share: _SHARE = 0
    group_results: _COUNT = 0
    requests: _COUNT = 0
    late_requests: _COUNT = 0
    late: Annotated[list[_COUNT], Meta(max_length=len(LATE_BELOW_MS) + 1)] = []
    never: _COUNT = 0
    stand_ins: _COUNT = 0
    tolerant: _COUNT = 0
    filled: _COUNT = 0
    probations: _COUNT = 0
    filled_rows: _COUNT = 0
    cache: _SHARE = 1
    owed: _COUNT = 0


class Links(Struct, frozen=True, kw_only=True):
    """`halo/<cell>/hub/links`, each second: how the hub reaches its workers, and what each device has done."""

    protocol: Literal[3] = 3
    session: _HEX64
    links: Annotated[list[Link], Meta(max_length=64)]
    work: Annotated[list[Work], Meta(max_length=65)] = []


class BadDocument(Exception):
    """What was received is not the document that belongs on its topic; the text says why."""


class OtherProtocol(BadDocument):
    """The sender speaks another version of the protocol; the text tells the user who is to be updated."""

    def __init__(self, sender: _Envelope) -> None:
        theirs, ours = f"protocol {sender.protocol}", f"{PROTOCOL} (halo {__version__})"
        if isinstance(sender.halo, str) and sender.halo:  # versions before 0.1 do not say it
            theirs += f" (halo {clean(sender.halo, 40)})"
        where = "there" if sender.protocol < PROTOCOL else "here"
        super().__init__(f"it speaks {theirs}, this device {ours}: update HALO {where}")
        self.hub = clean(sender.hub, 63) if isinstance(sender.hub, str) else ""
        """Of a lease: who leads the cell; may be empty."""


class _Envelope(Struct):
    """What is read of any version's document."""

    protocol: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    halo: Any = None
    hub: Any = None


Document = TypeVar("Document", Lease, Beat, Profile, Plan, Links)


def encode(document: Lease | Beat | Profile | Plan | Links) -> bytes:
    """The JSON text of a document."""
    return msgspec.json.encode(document)


def decode(kind: type[Document], payload: bytes) -> Document:
    """Parse and check a document of the given kind; raises BadDocument and nothing else."""
    if len(payload) > MAX_DOCUMENT:
        raise BadDocument(f"{len(payload)} bytes are more than a control document may have")
    try:
        envelope = msgspec.json.decode(payload, type=_Envelope)
        if envelope.protocol != PROTOCOL:
            raise OtherProtocol(envelope)
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadDocument(str(error)) from None
