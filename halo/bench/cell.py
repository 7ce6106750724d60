"""The cell that is measured: on this machine, at a broker, or in the laboratory, where the network can be changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from halo.bench.busy import BusyThread
from halo.bench.lab import lab_errors, load_lab
from halo.cell.address import Address
from halo.cell.broker import Mosquitto, find_mosquitto
from halo.cell.hub import Cell
from halo.cell.local import LocalWorkers
from halo.cell.loop import LoopThread
from halo.cell.native import OpenModel
from halo.errors import HaloError
from halo.exchange.lanes import LANES
from halo.limits import PLANS

if TYPE_CHECKING:
    from benchmarks.lab import Conditions, Lab

_NAME = "halo"


@dataclass(frozen=True)
class Setup:
    """Which cell; `conditions` stands for the laboratory, which has a broker of its own."""

    model: OpenModel
    workers: int
    n_ctx: int
    log: Callable[[str], None]
    partials: str = "fixed"
    threads: int = 1
    plan: str = PLANS[0]
    hub_share: float | None = None
    residency: str = "full"
    worker_threads: int = 1
    worker_pace_us: int = 0
    worker_pace_group_us: int = 0
    hub_pace_group_us: int = 0
    broker: str | None = None
    cell: str = _NAME
    conditions: Conditions | None = None
    congestion: str = "cubic"
    ip: int = 4
    transport: str = "auto"
    lanes: int = LANES
    busy: bool = False


@dataclass(frozen=True)
class Usage:
    """What has been spent so far. Without a laboratory bytes are those of messages, and nobody counts datagrams."""

    cpu_s: float
    bytes: int
    datagrams: int | None = None
    lost: int | None = None
    switch_s: float | None = None


class BenchCell:
    """A cell with a network that may be changed and read."""

    def __init__(self, cell: Cell, setup: Setup, lab: Lab | None = None) -> None:
        self.cell = cell
        if setup.hub_pace_group_us:
            cell.engine.pace(0, setup.hub_pace_group_us)
        conditions = setup.conditions
        self.lossy = setup.busy or (conditions is not None and conditions.loss > 0)
        """Whether there are two cases to compare: nothing in the way, and what was asked for."""
        self._busy = BusyThread() if setup.busy else None
        self._lab = lab
        self._conditions = conditions
        self._private = setup.broker is None

    @property
    def network(self) -> str:
        """Who carries the frames: "loopback", the laboratory's "kernel" or "switch", or "broker": who knows."""
        if self._lab is not None:
            return "kernel" if self._lab.kernel else "switch"
        return "loopback" if self._private else "broker"

    def lose(self, on: bool) -> None:
        """Lose frames as asked for, or none; compute beside it, or not."""
        if self._busy is not None:
            self._busy.switch(on)
        if self._lab is not None and self._conditions is not None:
            self._lab.set(self._conditions if on else self._conditions.without_loss)

    def echo(self, request: int, reply: int, rounds: int) -> list[float]:
        """Seconds of rounds of bare datagrams to all workers and back, in fragments as HALO's, on the good network."""
        if self._lab is None:
            raise HaloError("--echo needs the laboratory: give one of its options, --delay 2 for example.")
        self.lose(False)
        times: list[float] = load_lab().echo(self._lab, request, reply, rounds)
        return times

    def usage(self) -> Usage:
        """So far, of the hub's process and of the network."""
        if self._lab is None:
            totals = self.cell.report()["totals"]
            return Usage(time.process_time(), totals["bytes_sent"] + totals["bytes_received"])
        counted = self._lab.total()
        return Usage(time.process_time(), counted.bytes, counted.frames, counted.lost, self._lab.cpu_s())


@contextlib.contextmanager
def open_cell(setup: Setup) -> Iterator[BenchCell]:
    """Open it, and take it all down again; raises HaloError."""
    if setup.conditions is None:
        with _open(setup, setup.broker, setup.cell) as cell:
            yield BenchCell(cell, setup)
        return
    with (
        lab_errors(),
        _laboratory(setup, setup.conditions) as lab,
        lab.inside(0),
        _broker(load_lab().address(0, setup.ip)) as address,
        _workers(setup, lab, address) as workers,
    ):
        try:
            cell = _open(setup, str(address), _NAME)
        except HaloError:
            workers.check()  # its last words say more
            raise
        with cell:
            yield BenchCell(cell, setup, lab)


def _open(setup: Setup, broker: str | None, cell: str) -> Cell:
    return Cell.open(
        setup.model,
        workers=setup.workers,
        broker=broker,
        cell=cell,
        n_ctx=setup.n_ctx,
        threads=setup.threads,
        partials=setup.partials,
        plan=setup.plan,
        hub_share=setup.hub_share,
        residency=setup.residency,
        worker_threads=setup.worker_threads,
        worker_pace_us=setup.worker_pace_us,
        worker_pace_group_us=setup.worker_pace_group_us,
        transport=setup.transport,
        lanes=setup.lanes,
        log=setup.log,
    )


def _laboratory(setup: Setup, conditions: Conditions) -> Lab:
    """The kernel carries the frames where it can do all that is asked for: the switch needs a processor."""
    lab: Lab = load_lab().Lab(
        max(2, setup.workers + 1),
        conditions.without_loss,
        congestion=setup.congestion,
        kernel=conditions.only_loss,
    )
    return lab


@contextlib.contextmanager
def _broker(host: str) -> Iterator[Address]:
    """mosquitto on host 0, where the caller already is."""
    program = find_mosquitto()
    if program is None:
        raise HaloError("The laboratory needs mosquitto: sudo apt install mosquitto.")
    loop = LoopThread("halo-broker")
    try:
        broker = loop.run(Mosquitto.start(program, host))
        try:
            yield broker.address
        finally:
            loop.run(broker.stop())
    finally:
        loop.close()


@contextlib.contextmanager
def _workers(setup: Setup, lab: Lab, address: Address) -> Iterator[LocalWorkers]:
    """Each on a host of its own."""

    def place(number: int, command: Sequence[str]) -> list[str]:
        return lab.command(number, *command)

    workers = LocalWorkers()
    loop = LoopThread("halo-workers")
    try:
        workers.start(
            setup.workers,
            address=address,
            cell=_NAME,
            model=str(setup.model.path),
            threads=setup.worker_threads,
            pace_us=setup.worker_pace_us,
            pace_group_us=setup.worker_pace_group_us,
            place=place,
        )
        yield workers
    finally:
        loop.run(workers.stop())
        loop.close()
