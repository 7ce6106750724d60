"""Datagrams between hub and workers: what each end says of itself in its documents, and how their links come to stand.

The links themselves are native (native/wire/): here are only keys, addresses and names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from halo.cell.messages import DatagramPlace, Lease, Profile, Sealing
from halo.cell.native import DatagramOffer, Native, NativeWorker, Relay
from halo.cell.roster import Owner, owner_of
from halo.errors import CellError
from halo.exchange.addresses import local_addresses, reachable
from halo.words import shortened

Transport = Literal["auto", "udp", "mqtt"]

_AES = "aes-256-gcm"  # announced only by who has instructions for it
_CHACHA = "chacha20-poly1305"
WITHOUT = "it cannot seal datagrams, or has no socket for them"
_LINKS_COME_S = {"auto": 1.0, "udp": 3.0}
_LOOK_S = 0.01


@dataclass
class _Opened:
    """A link of the hub: which member of the relay, whose, and where it has been looked for."""

    index: int
    owner: Owner
    candidates: list[tuple[str, int]]


class HubDatagrams:
    """The hub's end of its session's links. Its key pair and its socket are as old as the session."""

    def __init__(self, native: Native, transport: Transport, *, loopback: bool) -> None:
        self._native = native
        self._loopback = loopback
        self._transport = transport
        self.unavailable = "not asked for" if transport == "mqtt" else native.sealing_unavailable() or ""
        """Why there are no datagrams; empty: there are."""
        self.ciphers: dict[str, str] = {}
        """What seals the link to each worker that has one."""
        self.troubles: dict[str, str] = {}
        """Why there is no link to a worker that this device could have one to."""
        self._relay: Relay | None = None
        self._opened: dict[str, _Opened] = {}
        self._spent: set[Owner] = set()
        """Whose links are gone: packet numbers would begin anew under the same keys, which they must never do."""
        self._keys: Any = None if self.unavailable else native.KeyPair()

    @property
    def wanted(self) -> bool:
        """Whether the user lets datagrams carry anything."""
        return self._transport != "mqtt"

    @property
    def only(self) -> bool:
        """Whether the user lets nothing else carry partials."""
        return self._transport == "udp"

    @property
    def patience_s(self) -> float:
        """How long the links of new members may take to stand."""
        return _LINKS_COME_S[self._transport] if self.wanted else 0.0

    def sealing(self) -> Sealing | None:
        """What the lease says."""
        if self._keys is None:
            return None
        return Sealing(key=self._keys.public.hex(), ciphers=list(self._native.ciphers()))

    def open(self, relay: Relay) -> None:
        """Open the socket, before anyone joins. Where the system gives none, `unavailable` says why."""
        self._relay = relay
        if self._keys is None:
            return
        try:
            relay.open_datagrams(self._keys, self.only)
        except self._native.NativeError as error:
            self.unavailable, self._keys = str(error), None

    def offer(self, profile: Profile) -> DatagramOffer | None:
        """What a profile offers, or None: anyone on the broker can write one, and it must not stop the others."""
        if self._keys is None:
            return None
        self.troubles.pop(profile.name, None)
        place, key = profile.datagrams, b""
        if place is None:
            self.troubles[profile.name] = WITHOUT
            return None
        if owner_of(profile) in self._spent:
            self.troubles[profile.name] = "its link was given up, and the same keys open no second one: start it anew"
            return None
        candidates = self._candidates(place)
        if not candidates:
            self.troubles[profile.name] = "none of the addresses that it announces can be used"
            return None
        try:
            key = bytes.fromhex(place.key)
            self._keys.check(key)
        except (ValueError, self._native.NativeError) as error:
            self.troubles[profile.name] = f"the key that it announces cannot be used: {error}"
            return None
        return key, profile.incarnation, _common(place, self._native), candidates

    def opened(self, profile: Profile, index: int, offer: DatagramOffer) -> None:
        """The relay has taken this offer: there is a link now."""
        self.ciphers[profile.name] = offer[2]
        self._opened[profile.name] = _Opened(index, owner_of(profile), offer[3])

    def forget(self, name: str) -> None:
        """There is no link to this worker any more."""
        if (link := self._opened.pop(name, None)) is not None:
            self._spent.add(link.owner)
        self.ciphers.pop(name, None)

    async def settle(self) -> None:
        """Give the links of the first members a moment to answer."""
        if self._relay is None or self._keys is None:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self.patience_s
        while loop.time() < end and any(_silent(link) for link in self._relay.links()):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def hear(self, profile: Profile) -> None:
        """Look for a worker where its profile says now, if it is still the one that the link was opened to."""
        link, place = self._opened.get(profile.name), profile.datagrams
        if self._relay is None or link is None or place is None or link.owner != owner_of(profile):
            return
        candidates = self._candidates(place)
        if candidates and candidates != link.candidates:
            link.candidates = candidates
            self._relay.update_candidates(link.index, candidates)

    def _candidates(self, place: DatagramPlace) -> list[tuple[str, int]]:
        return [(address, place.port) for address in reachable(place.addresses, self._loopback)]


class WorkerDatagrams:
    """A worker's end: a socket for as long as the process lives, a link for as long as a session does."""

    def __init__(
        self, native: Native, worker: NativeWorker, incarnation: str, *, loopback: bool, port: int = 0
    ) -> None:
        """CellError where the user wants a `port` that cannot be had; 0: any."""
        self._native = native
        self._incarnation = incarnation
        self._loopback = loopback
        self.unavailable = native.sealing_unavailable() or ""
        self._end: Any = None
        self._failed = False
        self._serving = False
        if not self.unavailable:
            self._keys = native.KeyPair()
            try:
                self._end = native.DatagramWorker(worker, port)
            except native.NativeError as error:
                if port:
                    raise CellError(f"UDP port {port} cannot be used ({error}). Choose another: --udp-port.") from None
                self.unavailable = str(error)

    def has_moved(self, said: DatagramPlace | None) -> bool:
        """Whether the addresses are others than those that the profile has said."""
        return said is not None and said.addresses != local_addresses(self._loopback)

    def place(self) -> DatagramPlace | None:
        """What the profile says: the addresses are those of this moment."""
        if self._end is None or self._failed:
            return None
        return DatagramPlace(
            key=self._keys.public.hex(),
            ciphers=list(self._native.ciphers()),
            port=self._end.port,
            addresses=local_addresses(self._loopback),
        )

    def serve(self, lease: Lease) -> str:
        """Answer the hub of this lease, and nobody else. Returns why that cannot be; empty: it can, or need not."""
        if self._end is None:
            return ""
        self._failed = self._serving = False
        if lease.datagrams is None:
            self._end.close()
            return ""
        # A session that was ended may be served again. Packet numbers then begin anew, which they may only do under
        # another key; the profile that says "ready" tells the hub which.
        self._keys = self._native.KeyPair()
        cipher = _common(lease.datagrams, self._native)
        key, session = bytes.fromhex(lease.datagrams.key), int(lease.session, 16)
        try:
            self._end.serve(self._keys, key, session, self._incarnation, cipher)
        except (ValueError, self._native.NativeError) as error:
            self._end.close()
            self._failed = True
            return f"the key of the hub's lease cannot be used: {error}"
        self._serving = True
        return ""

    def heard(self) -> int | None:
        """How many packets have come from the hub, which sends one each second at least; None: there is no link."""
        return int(self._end.link()["packets"]["packets_received"]) if self._serving else None

    def close(self) -> None:
        """Answer nobody."""
        self._serving = False
        if self._end is not None:
            self._end.close()


def _common(peer: Sealing, native: Native) -> str:
    """The cipher of a link; both ends come to the same one."""
    return _AES if _AES in peer.ciphers and _AES in native.ciphers() else _CHACHA


def why_unreached(profile: Profile, link: Mapping[str, Any] | None, troubles: Mapping[str, str]) -> str:
    """Why datagrams do not reach a worker, as far as it can be known; empty: they do."""
    if link is None or not link["offered"]:
        return troubles.get(profile.name, WITHOUT)
    if link["alive"]:
        return ""
    port = "" if profile.datagrams is None else f" (UDP port {profile.datagrams.port} there)"
    return f"datagrams are not answered: a firewall between the devices?{port}"


def _silent(link: Mapping[str, Any] | None) -> bool:
    return link is not None and bool(link["offered"]) and not link["alive"]


def in_one_line(reasons: Mapping[str, str]) -> str:
    """Workers and reasons; those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{shortened(names)}: {reason}" for reason, names in by_reason.items())
