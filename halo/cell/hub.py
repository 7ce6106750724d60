"""`Cell`: the hub's side of a cell for the rest of the program, usable from any thread."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from halo.cell import native as native_module
from halo.cell.address import Address
from halo.cell.broker import LocalBroker, start_broker
from halo.cell.caution import caution
from halo.cell.engine import CellEngine, Membership
from halo.cell.ledger import summarize
from halo.cell.local import WORKER_COMMAND, LocalWorkers
from halo.cell.loop import LoopThread, errors_in_one_line
from halo.cell.memory import Budget
from halo.cell.messages import ModelId, Partials, Plan, Residency
from halo.cell.native import Command, Masks, Native, OpenModel, Relay
from halo.cell.news import describe
from halo.cell.plan import WHOLE
from halo.cell.roster import Roster
from halo.cell.session import HubSession, Offer
from halo.cell.shards import HubShards
from halo.cell.topics import Topics, is_name
from halo.errors import CellError
from halo.exchange.datagrams import Transport
from halo.exchange.lanes import LANES
from halo.limits import PARTIALS, PLANS, RESIDENCIES, TRANSPORTS, check, check_choice, check_hub_share
from halo.quality import QualityControl, parse_quality
from halo.words import visible

if TYPE_CHECKING:
    from halo.model import Model

_SLOTS = 1
_WORKERS_COME_S = 30.0
_ANNOUNCED_S = 2.0
_CLOSE_S = 1.5
_open_cells: set[Cell] = set()
"""Whoever forgets to close one: it is closed at exit."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    workers: int | None
    broker: str | None
    cell: str
    n_ctx: int
    threads: int
    partials: Partials
    transport: Transport
    plan: str
    hub_share: float | None
    residency: Residency
    worker_threads: int
    worker_pace_us: int
    worker_pace_group_us: int
    lanes: int
    quality: str | float | None
    sidecar: Path | None


class Cell:
    """A hub and its workers. Made by `Cell.open`; a context manager."""

    engine: CellEngine

    def __init__(self, model: OpenModel, wish: Wish, native: Native, log: Callable[[str], None]) -> None:
        self._model = model
        self._wish = wish
        self._native = native
        self._log = log
        self._loop: LoopThread | None = None
        self._broker: LocalBroker | None = None
        self._locals = LocalWorkers()
        self._session: HubSession | None = None
        self._members = Membership()
        self._serving: asyncio.Task[None] | None = None
        self._close_lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        model: OpenModel,
        *,
        workers: int | None = None,
        broker: str | None = None,
        cell: str = "halo",
        n_ctx: int,
        threads: int = 1,
        partials: str = "fixed",
        transport: str = "auto",
        plan: str = PLANS[0],
        hub_share: float | None = None,
        residency: str = "full",
        worker_threads: int = 1,
        worker_pace_us: int = 0,
        worker_pace_group_us: int = 0,
        lanes: int = LANES,
        quality: str | float | None = None,
        sidecar: str | os.PathLike[str] | None = None,
        log: Callable[[str], None] | None = None,
        native: Native | None = None,
        worker_command: Command = WORKER_COMMAND,
    ) -> Cell:
        """Open a cell as its hub.

        Without `workers` and `broker`: this device alone, no network. `workers` without `broker`: that many
        local processes over a broker of their own. With `broker` (a URL): the cell `cell` there, waiting 30 s
        for `workers` to be ready, or, without a number, using those that announce themselves within 2 s. Others may
        join later, up to that number (without one: 64), and whoever goes is done without.
        `partials`, `transport`, `plan`, `hub_share` and `residency` are those of `halo.HaloLlama`; `worker_threads`,
        `worker_pace_us` and `worker_pace_group_us` are for local workers. `lanes` is how many MQTT connections
        carry data (1: strict TCP, to compare with). `quality` and `sidecar` are those of `halo.HaloLlama`. `native` and
        `worker_command` are for tests. Raises BrokerError and CellError, ValueError for an option out of its range;
        whatever was started is stopped then.
        """
        check(workers=workers, hub_share=hub_share, worker_threads=worker_threads)
        check(worker_pace_us=worker_pace_us, worker_pace_group_us=worker_pace_group_us)
        check_choice("partials", partials, PARTIALS)
        check_choice("transport", transport, TRANSPORTS)
        check_choice("plan", plan, PLANS)
        check_choice("residency", residency, RESIDENCIES)
        check_hub_share(plan, hub_share)
        if quality is not None:
            parse_quality(quality)
        wish = Wish(
            workers,
            broker,
            cell,
            n_ctx,
            threads,
            cast("Partials", partials),
            cast("Transport", transport),
            plan,
            hub_share,
            cast("Residency", residency),
            worker_threads,
            worker_pace_us,
            worker_pace_group_us,
            lanes,
            quality,
            None if sidecar is None else Path(sidecar),
        )
        self = cls(model, wish, native or native_module.load(), log or log_to_stderr)
        _open_cells.add(self)
        try:
            self._start(worker_command)
        except BaseException:
            self.close()
            raise
        return self

    def report(self) -> dict[str, Any]:
        """What each device did, since the opening.

        {"workers" (that take part now), "model", "partials", "transport" (as the user wanted it), "devices": [{"name",
        "share" (of the group results), "group_results", "requests", "messages_sent", "bytes_sent",
        "messages_received", "bytes_received" (what that device has sent and received), "late_requests", "late" (by how
        late: `halo.cell.messages.LATE_BELOW_MS`), "never" (requests that were never answered), "stand_ins" (those that
        somebody else computed), "tolerant" (those that could be late), "filled" (those for which means were added),
        "probations", "filled_rows" (of its cache, by the hub), "took_us" and "link_us" (of a request lately: computing
        it, and the way there and back); of a worker that has not been replaced also "state", "cache" (the part of the
        sequence that it has), "owed" and "link" (the fields of `halo.cell.messages.Link`, and "packets": the hub's
        count of its datagrams)}], the hub first, "totals": what the hub has sent and received,
        "counters": the engine's others, "quality": what was used and how much was late
        (`halo.quality.QualityControl.report`)}
        """
        members = self._members
        report = {
            "workers": len(members.names()),
            "model": self._model.name,
            "partials": self._wish.partials,
            "transport": self._wish.transport,
            "quality": self.engine.quality_report(),
            **summarize(self.engine.settle()),
        }
        states = members.devices()
        for device in report["devices"]:
            device.update(states.get(device["name"], {}))
        return report

    def close(self) -> None:
        """Leave the cell and stop what was started; any number of times."""
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        _open_cells.discard(self)
        if hasattr(self, "engine"):
            self.engine.close()
        if self._loop is not None:
            with contextlib.suppress(Exception):
                self._loop.run(self._shut_down(), 2 * _CLOSE_S + 2)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, worker_command: Command) -> None:
        wish = self._wish
        topics = Topics(wish.cell)
        alone = wish.broker is None and not wish.workers
        if alone or wish.residency == "full":
            self._load(self._native.shard_masks(self._model.native, *WHOLE))
        if not alone:
            self._loop = LoopThread("halo-cell")
            try:
                self._loop.run(self._join(topics, worker_command), may_end=True)
            except CancelledError:
                raise CellError("The cell was not opened: that was cancelled.") from None
        if self._session is not None and self._session.shards is not None:
            self._load(self._session.shards.hub_masks())
        engine = self._native.Engine(
            self._model.native, wish.n_ctx, n_slots=_SLOTS, threads=wish.threads, partials=wish.partials
        )
        engine.set_plan(wish.plan, wish.hub_share)
        if self._session is not None:
            self._members = _Joined(self._session)
            self._session.stats = engine.stats
            self._session.on_failure = engine.cancel
        quality = QualityControl(cast("Model", self._model), wish.sidecar, engine, self._log)
        used = quality.set(wish.quality)
        if used.share and wish.quality is None and not alone:
            self._log(f"quality: {used.level}, as {quality.sidecar.name} allows (exact: the same text, always)")
        self.engine = CellEngine(self._native, engine, self._members, quality)

    def _load(self, masks: Masks) -> None:
        model = self._model.native
        try:
            advice = Budget().check(
                model.weight_bytes(masks), model.cache_bytes(self._wish.n_ctx * _SLOTS), model.held_bytes()
            )
        except CellError as error:  # of its own device the user is told, and decides
            advice = f"this device will swap, or the system end it: {error}"
        if advice:
            self._log(advice)
        model.load(masks)

    async def _join(self, topics: Topics, worker_command: Command) -> None:
        wish = self._wish
        errors_in_one_line(asyncio.get_running_loop(), self._log)
        private = wish.broker is None
        if wish.broker is None:
            self._broker = await start_broker(self._log)
            address = self._broker.address
        else:
            address = Address.parse(wish.broker)
        shards = self._make_shards if wish.residency == "shards" else None
        self._session = session = HubSession(
            address, topics, self._offer(), self._native, self._log, wish.lanes, shards
        )
        if private:
            self._locals.start(
                wish.workers or 0,
                address=address,
                cell=wish.cell,
                model=str(self._model.path),
                threads=wish.worker_threads,
                pace_us=wish.worker_pace_us,
                pace_group_us=wish.worker_pace_group_us,
                command=worker_command,
            )
        else:
            await session.claim()
        await self._serve(session)
        await caution(address, self._log)
        wanted = wish.workers
        names = await session.form(wanted, _ANNOUNCED_S if wanted is None else _WORKERS_COME_S, self._locals.check)
        self._announce(names, topics, address)

    async def _serve(self, session: HubSession) -> None:
        started = asyncio.Event()
        self._serving = asyncio.create_task(session.serve(started))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait((self._serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not started.is_set():
            await self._serving  # raises why

    def _announce(self, names: list[str], topics: Topics, address: Address) -> None:
        if names or self._wish.workers == 0:
            self._log(f"computing with {describe(names)}")
        else:
            self._log(f"no worker is in the cell {topics.cell!r} at {address}: the hub computes alone")

    def _offer(self) -> Offer:
        wish, model = self._wish, self._model
        identity = ModelId.of(model)
        return Offer(hub_name(), identity, wish.n_ctx, _SLOTS, wish.partials, wish.transport, wish.residency)

    def _make_shards(self, session: str, roster: Roster, publish: Callable[[Plan], Awaitable[None]]) -> HubShards:
        return HubShards(session, self._native, self._model.native, self._wish.hub_share, roster, publish)

    async def _shut_down(self) -> None:
        if self._session is not None and self._serving is not None:
            self._session.leave()
            await asyncio.wait((self._serving,), timeout=_CLOSE_S)
            self._serving.cancel()
            await asyncio.wait((self._serving,), timeout=0.5)
        await self._locals.stop()
        if self._broker is not None:
            await self._broker.stop()


class _Joined(Membership):
    """The membership of a cell, asked from the thread that runs the engine."""

    def __init__(self, session: HubSession) -> None:
        self._session = session

    @property
    def relay(self) -> Relay:
        return self._session.members.relay

    @property
    def failure(self) -> CellError | None:
        return self._session.failure

    def names(self) -> list[str]:
        return self._session.members.names()

    def name(self, index: int) -> str | None:
        return self._session.members.name(index)

    def settle(self, stats: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return self._session.members.settle(stats)

    def reset(self) -> None:
        self._session.members.reset()

    def devices(self) -> dict[str, dict[str, Any]]:
        return self._session.devices()


def hub_name() -> str:
    """This machine's name, as a device name."""
    name = "".join(c if is_name("x" + c) else "-" for c in socket.gethostname()).lstrip("-._")[:63]
    return name or "hub"


def log_to_stderr(line: str) -> None:
    print(f"halo: {visible(line)}", file=sys.stderr, flush=True)


@atexit.register
def _close_all() -> None:
    for cell in list(_open_cells):
        cell.close()
