"""Random faults in a row while a cell generates: nothing is lost, nothing leaks, and pauses do not grow."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import generate, until_used
from benchmarks.trouble.rows import Row, Run, Scenario, ms
from benchmarks.trouble.stage import Scene, Stage
from benchmarks.trouble.survival import BROKER, CUT, FREEZE, KILL, SLOW

_TOKENS = 45
_WORKERS = 3
_FAULTS = (KILL, FREEZE, CUT, SLOW, BROKER)
_BACK_S = 12.0


@dataclass(frozen=True)
class Usage:
    """Of this process, which is the hub's."""

    resident: int
    files: int
    threads: int


def _usage() -> Usage:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return Usage(int(status["VmRSS"].split()[0]) * 1024, files, int(status["Threads"]))


def _soak(run: Run) -> Iterator[Row]:
    """`run.faults` of them, or as many as fit into `run.minutes`."""
    dice, wrong = random.Random(1), 0
    pauses: list[float] = []
    usages: list[Usage] = []
    limit_s = 60 * run.minutes if run.minutes else 55.0
    begin_s = time.monotonic()
    scene = Scene(run.stories, workers=_WORKERS, conditions=Conditions(delay_us=500), pace_us=1000)
    with Stage(scene, run.say, limit_s + 30) as stage:
        usual = generate(stage, _TOKENS)
        while len(pauses) < run.faults and time.monotonic() < begin_s + limit_s:
            fault, worker = dice.choice(_FAULTS), dice.randint(1, _WORKERS)
            first, last = dice.randint(1, 8), dice.randint(12, 30)
            acts = {n: functools.partial(act, stage, worker) for n, act in ((first, fault.begin), (last, fault.end))}
            run.say(f"fault {len(pauses) + 1}: {fault.name}, worker {worker}")
            hit = generate(stage, _TOKENS, acts, usual_s=usual.median)
            wrong += not hit.same(usual)
            pauses.append(hit.longest(usual.median))
            usages.append(_usage())
        gone = [k for k in stage.workers if until_used(stage, k, _BACK_S) is None]
    yield _told(pauses, usages, wrong, gone)


def _told(pauses: list[float], usages: list[Usage], wrong: int, gone: list[int]) -> Row:
    third = max(1, len(pauses) // 3)
    early, late = statistics.fmean(pauses[:third]), statistics.fmean(pauses[-third:])
    warm, end = usages[min(len(usages) - 1, third // 2)], usages[-1]
    leaks = (
        end.resident > 1.1 * warm.resident + (8 << 20) or end.files > warm.files + 3 or end.threads > warm.threads + 2
    )
    grows = late > 1.5 * early + 0.05
    return Row(
        f"{len(pauses)} random faults in a row",
        "no request lost, no leak, no growing pause",
        f"{wrong} texts differ, {len(gone)} workers do not come back; memory {warm.resident >> 20} -> "
        f"{end.resident >> 20} MiB, files {warm.files} -> {end.files}, threads {warm.threads} -> {end.threads}; "
        f"pauses {ms(early)} (first third) -> {ms(late)} (last), the longest {ms(max(pauses))}",
        not wrong and not gone and not leaks and not grows,
        {
            "same": not wrong,
            "back": not gone,
            "leaks": leaks,
            "faults": len(pauses),
            "early_ms": 1e3 * early,
            "late_ms": 1e3 * late,
            "longest_ms": 1e3 * max(pauses),
        },
    )


def scenarios() -> dict[str, Scenario]:
    return {"soak": _soak}
