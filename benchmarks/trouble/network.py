"""Tokens with trouble on the way against tokens without, which alternate: fades, loss, and devices that slow down."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import Sample, alternate
from benchmarks.trouble.rows import Row, Run, Scenario
from benchmarks.trouble.stage import GOOD, Scene, Stage

_FADES = replace(GOOD, loss=0.05, fade_ms=20)
_STRETCH = 25


def _compared(what: str, bar: float | None, samples: list[Sample], more: str = "") -> Row:
    good, bad = samples
    ratio, same = bad.mean / good.mean, len(good.bits | bad.bits) == 1
    found = f"{ratio:.3f}x ({1e3 * bad.mean:.1f} against {1e3 * good.mean:.1f} ms a token)"
    return Row(
        what,
        "beside" if bar is None else f"at most {bar:.2f}x",
        found + more + ("" if same else "; bits DIFFER"),
        None if bar is None else ratio <= bar and same,
        {"ratio": ratio, "good_ms": 1e3 * good.mean, "bad_ms": 1e3 * bad.mean, "same": same},
    )


def _undisturbed(good: Sample) -> Row:
    """What makes the ratios mean something: the workers do the work."""
    supplied, stood_in = 1 - good.share("hub"), good.stood_in()
    return Row(
        "workers' part when undisturbed (4 workers, 2 ms one way, 2 ms a request)",
        "at least 75% of the group results, stand-ins for at most 1% of the requests",
        f"{supplied:.1%} and {stood_in:.2%}",
        supplied >= 0.75 and stood_in <= 0.01,
        {"supplied": supplied, "stood_in": stood_in},
    )


def _fades(run: Run, *, stand_ins: bool) -> Iterator[Row]:
    with Stage(Scene(run.stories, workers=4, stand_ins=stand_ins), run.say) as stage:
        samples = alternate(stage, [lambda: stage.lab.set(GOOD), lambda: stage.lab.set(_FADES)], 8, _STRETCH)
    if stand_ins:
        yield _undisturbed(samples[0])
    bad = samples[1]
    yield _compared(
        f"fades (mean 20 ms, 5% of the time) on each of 4 workers{'' if stand_ins else ', without stand-ins'}",
        1.10 if stand_ins else None,
        samples,
        f"; hub {bad.share('hub'):.1%} of the group results, stand-ins for {bad.stood_in():.2%} of the requests",
    )


class _Slowing:
    """Slows a random worker 3x for a second, waits for half a second to one and a half, and so on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._dice = random.Random(1)
        self._on, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def switch(self, on: bool) -> None:
        if on:
            self._on.set()
            return
        self._on.clear()
        for worker in self._stage.workers:
            self._stage.speed_up(worker)

    def _work(self) -> None:
        while not self._stop.is_set():
            if not self._on.wait(0.1) or self._stop.wait(self._dice.uniform(0.5, 1.5)):
                continue
            worker = self._dice.choice(list(self._stage.workers))
            if self._on.is_set():
                self._stage.slow(worker)
                self._stop.wait(1)
                self._stage.speed_up(worker)

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


def _slowed(run: Run) -> Iterator[Row]:
    with Stage(Scene(run.stories, workers=4), run.say) as stage:
        slowing = _Slowing(stage)
        try:
            ways = [lambda: slowing.switch(False), lambda: slowing.switch(True)]
            samples = alternate(stage, ways, 3, 3 * _STRETCH)
        finally:
            slowing.end()
    yield _compared("one of 4 workers slowed 3x for a second at random moments, half of the time", 1.15, samples)


def _loss_on_one(run: Run) -> Iterator[Row]:
    lossy: Conditions = replace(GOOD, loss=0.1)
    with Stage(Scene(run.stories, workers=4), run.say) as stage:
        samples = alternate(stage, [lambda: stage.lab.set(GOOD), lambda: stage.lab.set(lossy, 2)], 8, _STRETCH)
    yield _compared("10% loss on one of 4 workers", 1.05, samples)


def scenarios() -> dict[str, Scenario]:
    return {
        "fades": lambda run: _fades(run, stand_ins=True),
        "fades without stand-ins": lambda run: _fades(run, stand_ins=False),
        "slowed": _slowed,
        "loss-on-one": _loss_on_one,
    }
