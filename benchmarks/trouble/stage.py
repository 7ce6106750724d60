"""`Stage`: a cell in the laboratory, whose hub runs in this process and whose workers and broker can be ill-treated."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
import types
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.lab import Conditions, Lab
from benchmarks.trouble.players import BrokerPlayer, WorkerPlayer
from halo.cell import native as native_module
from halo.cell.hub import Cell
from halo.cell.native import Masks
from halo.errors import HaloError
from halo.exchange.lanes import LANES
from halo.model import Model, open_model

GOOD = Conditions(delay_us=2000)


@dataclass(frozen=True)
class Scene:
    """What is on the stage. `pace_us` and `pace_group_us` are those of the workers."""

    model: Path
    workers: int = 3
    conditions: Conditions = GOOD
    pace_us: int = 2000
    pace_group_us: int = 0
    hub_pace_us: int = 0
    hub_pace_group_us: int = 0
    plan: str = "even"
    hub_share: float | None = 0.0
    residency: str | None = None
    stand_ins: bool = True
    correct: bool = True  # off: what is late is dropped
    quality: str = "exact"
    sidecar: Path | None = None
    transport: str = "auto"
    lanes: int = LANES
    n_ctx: int = 512


@dataclass(frozen=True)
class Work:
    """What a device has done so far. `stand_ins`: of its requests, those that somebody else computed."""

    group_results: int = 0
    requests: int = 0
    stand_ins: int = 0

    def __sub__(self, other: Work) -> Work:
        return Work(
            self.group_results - other.group_results, self.requests - other.requests, self.stand_ins - other.stand_ins
        )

    def __add__(self, other: Work) -> Work:
        return Work(
            self.group_results + other.group_results, self.requests + other.requests, self.stand_ins + other.stand_ins
        )


class Stage:
    """A context manager. Workers are numbered from 1, as the hosts they run on.

    After `limit_s` the engine is closed, so that what hangs fails: with a HaloError that says so.
    """

    def __init__(self, scene: Scene, say: Callable[[str], None], limit_s: float = 60.0) -> None:
        self.scene = scene
        self._limit_s = limit_s
        self._overrun = False
        self._say = say
        self._stack = contextlib.ExitStack()
        self._director = ThreadPoolExecutor(1)
        self._acts: list[Future[None]] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._close)
            self._open()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._overrun and error is not None:
            raise HaloError(f"It was not done within {self._limit_s:.0f} s.") from None

    def _open(self) -> None:
        scene = self.scene
        self.model = model = open_model(scene.model)
        self.lab = self._stack.enter_context(
            Lab(max(2, scene.workers + 1), scene.conditions, kernel=scene.conditions.only_loss)
        )
        self._stack.enter_context(self.lab.inside(0))
        self.broker = BrokerPlayer(self.lab)
        pace = (scene.pace_us, scene.pace_group_us)
        self.workers = {k: WorkerPlayer(self.lab, k, scene.model, pace) for k in range(1, scene.workers + 1)}
        for player in (self.broker, *self.workers.values()):
            self._stack.callback(player.leave)
            self.direct(player.start)
        self.settle()
        try:
            self.cell = self._stack.enter_context(self._open_cell(model))
        except HaloError:
            for worker in self.workers.values():
                if not worker.runs:
                    raise HaloError(f"{worker.name} has ended: {worker.last_words()}") from None
            raise
        self.engine = self.cell.engine
        self.vocab = model.spec.vocab
        self.engine.pace(scene.hub_pace_us, scene.hub_pace_group_us)
        timer = threading.Timer(self._limit_s, self._stop_it)
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)

    def _open_cell(self, model: Model) -> Cell:
        scene = self.scene
        how: dict[str, Any] = {} if scene.residency is None else {"residency": scene.residency}
        return Cell.open(
            model,
            workers=scene.workers,
            broker=self.broker.url,
            n_ctx=scene.n_ctx,
            plan=scene.plan,
            hub_share=scene.hub_share,
            native=None if scene.stand_ins and scene.correct else _with(scene.stand_ins, scene.correct),
            quality=scene.quality,
            sidecar=scene.sidecar,
            transport=scene.transport,
            lanes=scene.lanes,
            log=self._say,
            **how,
        )

    def _stop_it(self) -> None:
        self._overrun = True
        self.engine.close()

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self.settle()
        self._stack.close()
        self._director.shutdown()

    def direct(self, act: Callable[[], None], delay_s: float = 0.0) -> None:
        """Do it soon, one after the other, in a thread that lives as long as the stage."""

        def later() -> None:
            time.sleep(delay_s)
            act()

        self._acts.append(self._director.submit(later))

    def settle(self) -> None:
        """Return when all that was directed is done; raises what went wrong."""
        acts, self._acts = self._acts, []
        for act in acts:
            act.result()

    def kill(self, worker: int) -> None:
        self.workers[worker].kill()

    def restart(self, worker: int) -> None:
        self.workers[worker].start()

    def freeze(self, worker: int) -> None:
        self.workers[worker].signal(signal.SIGSTOP)

    def thaw(self, worker: int) -> None:
        self.workers[worker].signal(signal.SIGCONT)

    def cut(self, worker: int) -> None:
        """Its link is dead."""
        dead = Conditions(loss=1) if self.lab.kernel else Conditions(delay_us=self.scene.conditions.delay_us, loss=1)
        self.lab.set(dead, worker)

    def heal(self, worker: int) -> None:
        self.lab.set(self.scene.conditions, worker)

    def slow(self, worker: int) -> None:
        self.workers[worker].slow_down(3)

    def speed_up(self, worker: int) -> None:
        self.workers[worker].slow_down(1)

    def stop_broker(self, worker: int = 0) -> None:
        self.broker.kill()

    def start_broker(self, worker: int = 0) -> None:
        self.broker.start()

    def work(self) -> dict[str, Work]:
        """By device name, the hub's first."""
        return {
            device["name"]: Work(device["group_results"], device["requests"], device.get("stand_ins", 0))
            for device in self.cell.report()["devices"]
        }

    def set_quality(self, quality: str) -> None:
        """From the next token on; HaloError where another one is used instead."""
        if self.engine.set_quality(quality).level != quality:
            raise HaloError(f"The quality {quality} cannot be used: {self.engine.quality_report()}")

    def deal(self, hub: Masks, workers: Mapping[int, Masks]) -> None:
        """What each of them holds, from now on: the hub's by plan, those of workers as the hub sees them."""
        self.model.native.forget()
        self.model.native.load(hub)
        members = self.cell._members
        assert members.relay is not None
        names = [members.name(i) for i in range(len(self.workers))]
        for worker, masks in workers.items():
            members.relay.set_resident(names.index(self.workers[worker].name), masks)

    def set_plan(self, plan: str, hub_share: float | None = None) -> None:
        """From the next token on."""
        self.engine.set_plan(plan, hub_share)


def _with(stand_ins: bool, correct: bool) -> Any:
    """The native module, whose relays let the hub wait for every answer, or drop what is late."""
    real: Any = native_module.load()
    relay = functools.partial(real.Relay, stand_ins=stand_ins, correct=correct)
    names = {name: getattr(real, name) for name in dir(real) if not name.startswith("__")}
    return types.SimpleNamespace(**{**names, "Relay": relay})
