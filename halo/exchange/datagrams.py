"""Datagrams between hub and workers: what each end says of itself in its documents, and how their links come to stand.

The links themselves are native (native/wire/): here are only keys, addresses and names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from halo.cell.messages import DatagramPlace, Lease, Profile, Sealing
from halo.cell.native import Native, NativeWorker, Relay
from halo.exchange.addresses import local_addresses
from halo.words import shortened

Transport = Literal["auto", "udp", "mqtt"]

_AES = "aes-256-gcm"  # announced only by who has instructions for it
_CHACHA = "chacha20-poly1305"
_LINKS_COME_S = {"auto": 1.0, "udp": 3.0}
_LOOK_S = 0.01


class HubDatagrams:
    """The hub's end of one session's links. Its key pair is as old as the session."""

    def __init__(self, native: Native, transport: Transport) -> None:
        self._native = native
        self._transport = transport
        self.unavailable = "not asked for" if transport == "mqtt" else native.sealing_unavailable() or ""
        """Why there are no datagrams; empty: there are."""
        self.ciphers: dict[str, str] = {}
        """What seals the link to each worker that has one."""
        self._keys = None if self.unavailable else native.KeyPair()

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
        offers = [self._offer(profile) for profile in profiles]
        relay.open_datagrams(self._keys, int(session, 16), offers, self.only)
        loop = asyncio.get_running_loop()
        end = loop.time() + _LINKS_COME_S[self._transport]
        while loop.time() < end and not all(link["alive"] for link in relay.links() if link["offered"]):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def _offer(self, profile: Profile) -> tuple[bytes, str, str, list[tuple[str, int]]] | None:
        place = profile.datagrams
        if place is None:
            return None
        cipher = self.ciphers[profile.name] = _common(place, self._native)
        candidates = [(address, place.port) for address in place.addresses]
        return bytes.fromhex(place.key), profile.incarnation, cipher, candidates


class WorkerDatagrams:
    """A worker's end: a socket for as long as the process lives, a link for as long as a session does."""

    def __init__(self, native: Native, worker: NativeWorker, incarnation: str, *, loopback: bool) -> None:
        self._native = native
        self._incarnation = incarnation
        self._loopback = loopback
        self.unavailable = native.sealing_unavailable() or ""
        self._end: Any = None
        if not self.unavailable:
            self._keys = native.KeyPair()
            try:
                self._end = native.DatagramWorker(worker)
            except native.NativeError as error:
                self.unavailable = str(error)

    def place(self) -> DatagramPlace | None:
        """What the profile says: the addresses are those of this moment."""
        if self._end is None:
            return None
        return DatagramPlace(
            key=self._keys.public.hex(),
            ciphers=list(self._native.ciphers()),
            port=self._end.port,
            addresses=local_addresses(self._loopback),
        )

    def serve(self, lease: Lease) -> None:
        """Answer the hub of this lease, and nobody else."""
        if self._end is None:
            return
        if lease.datagrams is None:
            self._end.close()
            return
        # A session that was ended may be served again. Packet numbers then begin anew, which they may only do under
        # another key; the profile that says "ready" tells the hub which.
        self._keys = self._native.KeyPair()
        cipher = _common(lease.datagrams, self._native)
        key, session = bytes.fromhex(lease.datagrams.key), int(lease.session, 16)
        self._end.serve(self._keys, key, session, self._incarnation, cipher)

    def close(self) -> None:
        """Answer nobody."""
        if self._end is not None:
            self._end.close()


def _common(peer: Sealing, native: Native) -> str:
    """The cipher of a link; both ends come to the same one."""
    return _AES if _AES in peer.ciphers and _AES in native.ciphers() else _CHACHA


def unreached(names: Sequence[str], profiles: Mapping[str, Profile], links: Sequence[Mapping[str, Any]]) -> str:
    """Which workers datagrams do not reach, and why, as far as it can be known; empty: all are reached."""
    silent = [name for name, link in zip(names, links, strict=True) if link["offered"] and not link["alive"]]
    without = [name for name, link in zip(names, links, strict=True) if not link["offered"]]
    reasons = []
    if silent:
        places = {name: profiles[name].datagrams for name in silent if name in profiles}
        ports = sorted({place.port for place in places.values() if place is not None})
        reasons.append(
            f"datagrams to {shortened(silent)} are not answered: a firewall between the devices? "
            f"(UDP port {', '.join(map(str, ports))} there)"
        )
    if without:
        reasons.append(f"{shortened(without)} cannot seal datagrams: is OpenSSL's libcrypto installed there?")
    return "; ".join(reasons)
