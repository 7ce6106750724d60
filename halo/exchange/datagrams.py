"""Datagrams between hub and workers: what each end says of itself in its documents, and how their links come to stand.

The links themselves are native (native/wire/): here are only keys, addresses and names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from halo.cell.messages import DatagramPlace, Lease, Profile, Sealing
from halo.cell.native import Native, NativeWorker, Relay
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
    """A link of the hub: which worker of the relay, whose (incarnation and key), and where it has been looked for."""

    number: int
    owner: tuple[str, str]
    candidates: list[tuple[str, int]]


class HubDatagrams:
    """The hub's end of one session's links. Its key pair is as old as the session."""

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
        self._keys: Any = None if self.unavailable else native.KeyPair()

    @property
    def wanted(self) -> bool:
        """Whether the user lets datagrams carry anything."""
        return self._transport != "mqtt"

    @property
    def only(self) -> bool:
        """Whether the user lets nothing else carry partials."""
        return self._transport == "udp"

    def sealing(self) -> Sealing | None:
        """What the lease says."""
        if self._keys is None:
            return None
        return Sealing(key=self._keys.public.hex(), ciphers=list(self._native.ciphers()))

    async def open(self, relay: Relay, session: str, profiles: Sequence[Profile]) -> None:
        """Open links to those workers that offer one, and give them a moment to answer."""
        if self._keys is None:
            return
        offers = [self._offer(number, profile) for number, profile in enumerate(profiles)]
        try:
            relay.open_datagrams(self._keys, int(session, 16), offers, self.only)
        except self._native.NativeError as error:  # this system gives no socket
            self.unavailable = str(error)
            return
        self._relay = relay
        loop = asyncio.get_running_loop()
        end = loop.time() + _LINKS_COME_S[self._transport]
        while loop.time() < end and not all(link["alive"] for link in relay.links() if link["offered"]):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def hear(self, profile: Profile) -> None:
        """Look for a worker where its profile says now, if it is still the one that the link was opened to."""
        link, place = self._opened.get(profile.name), profile.datagrams
        if self._relay is None or link is None or place is None or link.owner != (profile.incarnation, place.key):
            return
        candidates = self._candidates(place)
        if candidates and candidates != link.candidates:
            link.candidates = candidates
            self._relay.update_candidates(link.number, candidates)

    def _candidates(self, place: DatagramPlace) -> list[tuple[str, int]]:
        return [(address, place.port) for address in reachable(place.addresses, self._loopback)]

    def _offer(self, number: int, profile: Profile) -> tuple[bytes, str, str, list[tuple[str, int]]] | None:
        """What a profile offers, or None: anyone on the broker can write one, and it must not stop the others."""
        place, key = profile.datagrams, b""
        if place is None:
            self.troubles[profile.name] = WITHOUT
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
        cipher = self.ciphers[profile.name] = _common(place, self._native)
        self._opened[profile.name] = _Opened(number, (profile.incarnation, place.key), candidates)
        return key, profile.incarnation, cipher, candidates


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
        self._failed = False
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
        return ""

    def close(self) -> None:
        """Answer nobody."""
        if self._end is not None:
            self._end.close()


def _common(peer: Sealing, native: Native) -> str:
    """The cipher of a link; both ends come to the same one."""
    return _AES if _AES in peer.ciphers and _AES in native.ciphers() else _CHACHA


def unreached(
    names: Sequence[str],
    profiles: Mapping[str, Profile],
    links: Sequence[Mapping[str, Any]],
    troubles: Mapping[str, str],
) -> dict[str, str]:
    """Which workers datagrams do not reach, and why, as far as it can be known: `troubles`, or a firewall."""
    reasons: dict[str, str] = {}
    for name, link in zip(names, links, strict=True):
        if not link["offered"]:
            reasons[name] = troubles.get(name, WITHOUT)
        elif not link["alive"]:
            place = profiles[name].datagrams if name in profiles else None
            port = "" if place is None else f" (UDP port {place.port} there)"
            reasons[name] = f"datagrams to it are not answered: a firewall between the devices?{port}"
    return reasons


def in_one_line(reasons: Mapping[str, str]) -> str:
    """The workers and the reasons that `unreached` gives; those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{shortened(names)}: {reason}" for reason, names in by_reason.items())
