"""A worker's life in a cell: it follows the hub's lease and answers requests, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from halo import __version__
from halo.cell.address import Address
from halo.cell.caution import caution
from halo.cell.connection import FIRST_ATTEMPTS_S, Connection
from halo.cell.ledger import HUB
from halo.cell.loop import errors_in_one_line
from halo.cell.memory import Budget
from halo.cell.messages import BadDocument, Lease, ModelId, OtherProtocol, Profile, Shard, decode, encode
from halo.cell.native import Native, NativeWorker, OpenModel
from halo.cell.residence import Residence
from halo.cell.topics import Topics, check_name, is_name
from halo.cell.view import BEAT_PATIENCE_S, running
from halo.errors import BrokerError, CellError
from halo.exchange.addresses import is_loopback
from halo.exchange.datagrams import WorkerDatagrams
from halo.exchange.lanes import LANES
from halo.exchange.mqtt import WorkerExchange
from halo.words import clean

_LAST_RESORT_S = 2.5
"""How long a worker without a parent may take to leave in order."""
_LEASE_RETURNS_S = 1.0
_LEASE_PUT_BACK_S = BEAT_PATIENCE_S + 2.0
"""A hub that lives writes its lease over a dead one's, which a broker remembers, within this time."""
_HUB_PINGS_S = 2.5
"""Within this time a hub that lives has sent a packet, whatever the broker says of it."""
_LOOK_S = 5.0
"""Between looks at this device's addresses."""
_ROOM_S = 10.0
"""Between looks at whether the memory has room by now."""


@dataclass(frozen=True)
class WorkerWish:
    """What the user asked for."""

    address: Address
    cell: str = "halo"
    name: str | None = None
    threads: int = 1
    exit_with_parent: bool = False
    wait: bool = False
    pace_us: int = 0
    pace_group_us: int = 0
    udp_port: int = 0
    memory: int | None = None
    """Bytes; None: what is free."""


def default_name() -> str:
    """`<host>-<4 hex>`: several workers of one machine differ."""
    host = "".join(c if is_name("x" + c) else "-" for c in socket.gethostname()).lstrip("-._")[:50]
    return f"{host or 'worker'}-{secrets.token_hex(2)}"


class WorkerService:
    """One worker. `serve` ends with SIGTERM, SIGINT, the parent, or a newer worker of the same name."""

    def __init__(self, model: OpenModel, wish: WorkerWish, native: Native, log: Callable[[str], None]) -> None:
        self.name = check_name("device", wish.name or default_name())
        if self.name == HUB:
            raise CellError(f"A worker cannot be called {HUB!r}: reports call the hub so. Choose another --name.")
        self.ignored = 0
        """Control documents that were not valid."""
        self._wish = wish
        self._log = log
        self._topics = Topics(wish.cell)
        self._worker: NativeWorker = native.Worker(model.native, wish.threads)
        self._worker.set_pace(wish.pace_us, wish.pace_group_us)
        self._model = ModelId.of(model)
        budget = Budget(wish.memory)
        self._profile = self._describe(native, budget)
        self._residence = Residence(native, model.native, self.name, budget, log)
        self._serving: asyncio.Task[None] | None = None
        loopback = is_loopback(wish.address.host)
        self._datagrams = WorkerDatagrams(
            native, self._worker, self._profile.incarnation, loopback=loopback, port=wish.udp_port
        )
        if self._datagrams.unavailable:
            log(f"partials go over MQTT only: no datagrams here, because {self._datagrams.unavailable}")
        self._lease: Lease | None = None
        self._remembered = False
        """The broker had this lease when we connected: its hub may be dead."""
        self._lease_news = asyncio.Event()
        self._stop = asyncio.Event()
        self._usurped = False
        self._leaving = False
        self._said = ""
        self._elders: set[str] = set()
        self._heard_myself = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        identity = self._profile.incarnation
        patience_s = math.inf if wish.wait else FIRST_ATTEMPTS_S
        self._control = Connection(
            wish.address,
            f"halo-{identity}-control",
            self._hear,
            topics={self._topics.lease: 1, self._topics.plan: 1, self._topics.profile(self.name): 1},
            on_up=self._publish_profile,
            will_clears=self._topics.profile(self.name),
            patience_s=patience_s,
            log=log,
        )
        self._data = WorkerExchange(
            wish.address, self._topics, self.name, f"halo-{identity}-data", self._worker, log, patience_s
        )

    def set_pace(self, per_request_us: int, per_group_us: int) -> None:
        """Take at least so long from now on for each request, and for each group of it; from any thread."""
        self._worker.set_pace(per_request_us, per_group_us)

    async def serve(self) -> None:
        """Serve; BrokerError when the broker is not there at the start, CellError when the name is taken."""
        errors_in_one_line(self._loop, self._log)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup ignores SIGHUP
                self._loop.add_signal_handler(number, self._stop.set)
        if self._wish.wait:
            self._log(f"waiting for the broker at {self._wish.address}")
        if self._wish.exit_with_parent:
            self._loop.add_reader(sys.stdin.fileno(), self._read_parent)
        starting = asyncio.create_task(self._stop.wait())
        try:
            async with running(self._data.lanes.run(), self._follow_connected()):
                await starting
                await self._say_goodbye()
        finally:
            starting.cancel()
            await self._stop_serving()
            self._residence.close()
            self._data.close()
        if self._usurped:
            raise CellError(
                f"Another worker took the name {self.name!r} in the cell {self._wish.cell!r}, and the newest "
                "wins. Give each worker a name of its own (--name), or none: then it makes one up."
            )

    async def _follow_connected(self) -> None:
        """Data first: when the profile says 'ready', requests must be able to arrive."""
        await self._data.lanes.wait_up()
        async with running(self._control.run(), self._watch_addresses()):
            await self._control.wait_up()
            await self._control.returns(self._heard_myself, self._topics.profile(self.name))
            self._log(f"worker {self.name} is in the cell {self._wish.cell!r} at {self._wish.address}")
            await caution(self._wish.address, self._log)
            while True:
                await self._lease_news.wait()
                self._lease_news.clear()
                if not self._is_doubtful() or not await self._lease_returns():
                    await self._follow(self._lease)

    async def _watch_addresses(self) -> NoReturn:
        """Say where datagrams arrive now, when that has changed and the connection to the broker has not noticed."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._control.is_up and not self._leaving and self._datagrams.has_moved(self._profile.datagrams):
                with contextlib.suppress(BrokerError):
                    await self._publish_profile()

    def _is_doubtful(self) -> bool:
        """Whether the lease that we serve is gone and may return: it is cleared, or the broker has another one."""
        served = self._profile.session
        return self._lease is None or (self._remembered and served not in ("", self._lease.session))

    async def _lease_returns(self) -> bool:
        """A cleared lease may come of a broker that restarts, or of a hub that was cut off from it; another hub's of a
        broker that has lost what it heard last.

        A living hub puts it back as it was; until then its packets tell that it lives.
        """
        patience_s = _LEASE_RETURNS_S if self._lease is None else _LEASE_PUT_BACK_S
        while True:
            await self._control.wait_up()
            life, heard = self._control.lives, self._datagrams.heard()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s if heard is None else _HUB_PINGS_S):
                    await self._lease_news.wait()
                    return True
            if self._control.is_up and life == self._control.lives and self._datagrams.heard() == heard:
                return False

    async def _follow(self, lease: Lease | None) -> None:
        """Do what the lease says: serve its session, or none."""
        before = self._profile
        if lease is None:
            await self._end_session()
            self._profile = replace_profile(before, "idle")
            if before.state in ("loading", "ready"):
                self._log("the hub has left; waiting for the next one")
        elif not lease.model.is_same(self._model):
            await self._end_session()
            self._profile = replace_profile(before, "refused", reason=_other_model(self._model, lease))
            if before.reason != self._profile.reason:
                self._log(self._profile.reason)
        elif before.session != lease.session:
            await self._open(lease, again=before.state == "ready")
        await self._publish_if_up()

    async def _stop_serving(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait((self._serving,))
            self._serving = None

    async def _end_session(self) -> None:
        await self._stop_serving()
        self._datagrams.close()
        self._data.serve("", 1)
        await self._data.on_bench(self._worker.close)

    async def _open(self, lease: Lease, *, again: bool) -> None:
        def begin() -> None:
            self._worker.open(int(lease.session, 16), lease.n_ctx, lease.slots)

        try:
            await self._stop_serving()
            self._datagrams.close()
            self._data.serve("", 1)
            await self._data.on_bench(begin)
        except Exception as error:  # whatever the lease asks for must not end the worker
            why = "there is not enough memory" if isinstance(error, MemoryError) else error
            self._refuse(f"it cannot serve {lease.n_ctx} positions: {why}. Try a smaller context (-c).")
            return
        self._profile = replace_profile(self._profile, "loading", session=lease.session)
        self._serving = asyncio.create_task(self._load_and_serve(lease, again))

    def _refuse(self, reason: str) -> None:
        self._data.serve("", 1)
        self._profile = replace_profile(self._profile, "refused", reason=clean(reason))
        self._log(self._profile.reason)

    async def _load_and_serve(self, lease: Lease, again: bool) -> None:
        """Hold what the lease wants, then answer; load what the plan says later beside that."""
        try:
            shard = await self._residence.wanted(lease)
            if self._residence.exceeds(shard):  # nobody has been told that we are ready: nothing is computed
                await self._data.on_bench(self._residence.forget)
            await self._wait_for_room(lease, shard)
            await self._residence.load(shard, self._tell_loading)
            self._serve(lease, shard, again)
            while lease.residency == "shards":
                await self._publish_if_up()
                shard = await self._residence.changed(lease, shard)
                await self._wait_for_room(lease, shard)
                await self._residence.load(shard, lambda loaded: None)
                self._profile = msgspec.structs.replace(self._profile, shard=shard, reason="")
        except Exception as error:  # too little memory, say
            self._datagrams.close()
            self._refuse(f"it cannot load its part of the model: {error}.")
        await self._publish_if_up()

    async def _wait_for_room(self, lease: Lease, shard: Shard | None) -> None:
        """Return once the shard fits into the memory; until then the profile says why it does not.

        A worker that serves already goes on with what it has.
        """
        said = False
        while True:
            try:
                if advice := self._residence.room(shard, lease.n_ctx * lease.slots):
                    self._log(advice)
                break
            except CellError as error:
                reason = clean(f"it cannot load its part of the model: {error}")
            if not said:
                self._log(reason)
                said = True
            state = "ready" if self._profile.state == "ready" else "refused"
            self._profile = msgspec.structs.replace(self._profile, state=state, reason=reason)
            await self._publish_if_up()
            await asyncio.sleep(_ROOM_S)
        if self._profile.state == "refused":
            self._profile = replace_profile(self._profile, "loading", session=lease.session)

    def _tell_loading(self, loaded: float) -> None:
        if self._profile.state != "loading":
            return
        if self._profile.loaded is None:
            self._log("loading the model")
        self._profile = msgspec.structs.replace(self._profile, loaded=round(loaded, 3))
        self._control.send(topic=self._topics.profile(self.name), payload=encode(self._profile), retain=True)

    def _serve(self, lease: Lease, shard: Shard | None, again: bool) -> None:
        if trouble := self._datagrams.serve(lease):
            self._log(f"partials go over MQTT only: {trouble}")
        self._data.serve(lease.session, lease.lanes)
        shown = shard if lease.residency == "shards" else None
        self._profile = replace_profile(self._profile, "ready", session=lease.session, shard=shown)
        if not again:
            self._log(f"serving session {lease.session} of hub {lease.hub} ({lease.model.name})")

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.lease:
            self._hear_lease(payload, retained)
        elif topic == self._topics.plan:
            self._residence.hear(payload)
        elif topic == self._topics.profile(self.name):
            self._hear_own_name(payload, retained)

    def _hear_lease(self, payload: bytes, retained: bool) -> None:
        try:
            self._lease = decode(Lease, payload) if payload else None
        except OtherProtocol as error:
            self.ignored += 1
            hub = f"the hub {error.hub}" if error.hub else "the hub"
            self._say_once(f"{hub} of this cell is not served: {error}")
            return
        except BadDocument:
            self.ignored += 1
            return
        self._remembered = retained
        self._lease_news.set()

    def _say_once(self, line: str) -> None:
        """A hub says again and again what it wants, until somebody serves it."""
        if line != self._said:
            self._said = line
            self._log(line)

    def _hear_own_name(self, payload: bytes, retained: bool) -> None:
        """Our own profile comes back; another one's means that the name is used twice."""
        if self._leaving:  # the cleared profile that comes back is what we want
            return
        incarnation = ""
        with contextlib.suppress(BadDocument):
            profile = decode(Profile, payload) if payload else None
            incarnation = profile.incarnation if profile is not None and profile.name == self.name else ""
        if incarnation == self._profile.incarnation:
            self._heard_myself.set()
        elif incarnation and (retained or not self._heard_myself.is_set()):
            self._elders.add(incarnation)  # it was here first: it will hear of us, and leave
        elif incarnation and incarnation not in self._elders:
            self._usurped = True
            self._stop.set()
        elif self._heard_myself.is_set():  # cleared by a late will, or overwritten by an elder or by garbage
            self._control.send(topic=self._topics.profile(self.name), payload=encode(self._profile), retain=True)

    async def _publish_if_up(self) -> None:
        with contextlib.suppress(BrokerError):  # not connected: said again when it is
            await self._publish_profile()

    async def _publish_profile(self) -> None:
        place = self._datagrams.place()
        exchanges = ["mqtt"] if place is None else ["udp", "mqtt"]
        self._profile = msgspec.structs.replace(self._profile, datagrams=place, exchanges=exchanges)
        await self._control.publish(self._topics.profile(self.name), encode(self._profile), retain=True)

    async def _say_goodbye(self) -> None:
        if self._usurped or not self._control.is_up:
            return
        self._leaving = True
        self._profile = replace_profile(self._profile, "idle", reason="it left the cell")  # a will does not say so
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(0.5):
                await self._publish_profile()
                await self._control.publish(self._topics.profile(self.name), b"", retain=True)

    def _read_parent(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._loop.remove_reader(sys.stdin.fileno())
            self._stop.set()
            last_resort = threading.Timer(_LAST_RESORT_S, os._exit, (1,))  # nobody is left who could kill us
            last_resort.daemon = True
            last_resort.start()

    def _describe(self, native: Native, budget: Budget) -> Profile:
        return Profile(
            name=self.name,
            incarnation=secrets.token_hex(8),
            halo=__version__,
            isa=clean(native.isa()),
            threads=self._wish.threads,
            cores=os.cpu_count() or 1,
            memory_bytes=budget.total,
            exchanges=["mqtt"],
            lanes=LANES,
            model=self._model,
            session="",
            state="idle",
            reason="",
        )


def replace_profile(
    profile: Profile, state: str, *, session: str = "", reason: str = "", shard: Shard | None = None
) -> Profile:
    """The same device in another state."""
    return msgspec.structs.replace(profile, state=state, session=session, reason=reason, shard=shard, loaded=None)


def _other_model(own: ModelId, lease: Lease) -> str:
    hubs = lease.model
    copy = "copies of all parts of the hub's model" if "-00001-of-" in hubs.file else "a copy of the hub's file"
    if own.identity == hubs.identity:
        return clean(
            f"its file of the model {own.name} ({own.file}) has other weights than that of the hub {lease.hub} "
            f"({hubs.file}), although all else is the same: one of the two is damaged, or of another training. Start "
            f"it with {copy}: halo worker -m {hubs.file}"
        )
    return clean(
        f"it has another model: {own.name} ({own.file}, identity {own.identity[:12]}), while the hub "
        f"{lease.hub} runs {hubs.name} ({hubs.file}, identity {hubs.identity[:12]}). Start it with {copy}: "
        f"halo worker -m {hubs.file}"
    )
