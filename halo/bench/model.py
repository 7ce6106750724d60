"""`halo bench model -m MODEL`: time per token and prompt tokens/s of one device, next to llama.cpp's in the same run.

Both engines hold the model at once and take turns, round by round; medians are reported. Tokens are arbitrary:
speed does not depend on them. With several processes at once, each with an engine of its own, their time per token
stands against its ideal: that of one process times how many of them share a core.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.bench.group import GroupFigure, bench_group
from halo.errors import HaloError
from halo.model import open_model

Tokens = NDArray[np.int32]
PROMPT, GENERATED = 128, 8
_LOADING_S = 300.0  # for all processes to have the model open; then those that wait for one that died give up


class Figure(TypedDict):
    """One case: "token" and "long" (at a filled context) in ms per token, "prompt" in tokens/s."""

    threads: int
    case: str
    value: float
    llama_cpp: float | None
    ratio: float | None  # above 1 HALO is the faster one


class Processes(TypedDict):
    """Several processes at once; ms per token. `ratio` of 1 would be cores that are divided without any loss."""

    processes: int
    threads: int  # of each
    cores: int
    alone: float  # one process
    value: float  # the median of all
    ideal: float
    ratio: float  # value / ideal


class Report(TypedDict):
    isa: str
    model: str
    types: str
    results: list[Figure]
    group: GroupFigure
    processes: list[Processes]


class _Engine(Protocol):
    def feed(self, tokens: Tokens) -> None: ...
    def keep(self, n: int) -> None: ...


class _Ours:
    def __init__(self, path: Path, n_ctx: int, threads: int) -> None:
        self._engine = _native.Engine(open_model(path).native, n_ctx, threads=threads)

    def feed(self, tokens: Tokens) -> None:
        self._engine.forward(0, tokens)

    def keep(self, n: int) -> None:
        self._engine.truncate(0, n)


class _LlamaCpp:
    def __init__(self, path: Path, n_ctx: int, threads: int) -> None:
        from llama_cpp import Llama  # part of the [hub] extra: a worker has none

        self._llama: Any = Llama(
            str(path), n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=False
        )

    def feed(self, tokens: Tokens) -> None:
        self._llama.eval(tokens.tolist())

    def keep(self, n: int) -> None:
        self._llama.n_tokens = n  # eval removes what lies beyond from the cache


def _engines(path: Path, n_ctx: int, threads: int) -> list[_Engine]:
    engines: list[_Engine] = [_Ours(path, n_ctx, threads)]
    with contextlib.suppress(ImportError):
        engines.append(_LlamaCpp(path, n_ctx, threads))
    return engines


def _seconds(engine: _Engine, tokens: Tokens, one_by_one: bool) -> float:
    """Seconds a token."""
    start = time.perf_counter()
    for piece in np.split(tokens, len(tokens)) if one_by_one else [tokens]:
        engine.feed(piece)
    return (time.perf_counter() - start) / len(tokens)


def _measure(engines: Sequence[_Engine], start: int, tokens: Tokens, one_by_one: bool, rounds: int) -> list[float]:
    times: list[list[float]] = [[] for _ in engines]
    for counted in range(rounds + 1):  # the first one does not count
        for engine, taken in zip(engines, times, strict=True):
            engine.keep(start)
            seconds = _seconds(engine, tokens, one_by_one)
            if counted:
                taken.append(seconds)
    return [statistics.median(t) for t in times]


def _figure(threads: int, case: str, seconds: Sequence[float]) -> Figure:
    values = [1 / s if case == "prompt" else 1000 * s for s in seconds]
    theirs = len(values) > 1
    return Figure(
        threads=threads,
        case=case,
        value=round(values[0], 2),
        llama_cpp=round(values[1], 2) if theirs else None,
        ratio=round(seconds[1] / seconds[0], 3) if theirs else None,
    )


def _generate_alone(path: Path, threads: int, rounds: int, start: Barrier, times: SimpleQueue[float]) -> None:
    """One of several processes: the median of its seconds a token, while all of them run."""
    engine = _Ours(path, 2 * PROMPT, threads)
    tokens = np.arange(3, 3 + GENERATED, dtype=np.int32)
    engine.feed(tokens)
    start.wait(_LOADING_S)
    taken = []
    for _ in range(rounds):
        engine.keep(0)
        taken.append(_seconds(engine, tokens, True))
    times.put(statistics.median(taken))


def _together(path: Path, processes: int, threads: int, rounds: int) -> float:
    """Seconds a token of so many processes at once, the median of all."""
    context = multiprocessing.get_context("spawn")  # no thread of ours in the children
    start, times = context.Barrier(processes), context.SimpleQueue()
    running = [
        context.Process(target=_generate_alone, args=(path, threads, rounds, start, times)) for _ in range(processes)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise HaloError("One of the processes that measure failed; is there enough memory for all of them?")
    taken: list[float] = [times.get() for _ in running]
    return statistics.median(taken)


def _share_cores(path: Path, processes: int, threads: int, rounds: int) -> Processes:
    cores = len(os.sched_getaffinity(0))
    alone = _together(path, 1, threads, rounds)
    value = _together(path, processes, threads, rounds)
    ideal = alone * max(1.0, processes * min(threads, cores) / cores)
    return Processes(
        processes=processes,
        threads=threads,
        cores=cores,
        alone=round(1000 * alone, 2),
        value=round(1000 * value, 2),
        ideal=round(1000 * ideal, 2),
        ratio=round(value / ideal, 3),
    )


def bench_model(
    path: Path, threads: Sequence[int] = (1, 2), rounds: int = 5, context: int = 0, processes: int = 0
) -> Report:
    """Measure a model file; with `context`, also the time per token after so many positions; with `processes`, also
    that of so many processes at once."""
    model = open_model(path)
    tokens = np.random.default_rng(0).integers(3, model.spec.vocab, PROMPT + context).astype(np.int32)
    results = []
    for n in threads:
        engines = _engines(path, max(2 * PROMPT, context + PROMPT), n)
        results.append(_figure(n, "prompt", _measure(engines, 0, tokens[:PROMPT], False, rounds)))
        results.append(_figure(n, "token", _measure(engines, 8, tokens[:GENERATED], True, rounds)))
        if context:
            for engine in engines:
                engine.keep(0)
                engine.feed(tokens[:context])
            results.append(_figure(n, "long", _measure(engines, context, tokens[:GENERATED], True, rounds)))
    return Report(
        isa=_native.isa(),
        model=model.name,
        types=model.types,
        results=results,
        group=bench_group(model, rounds),
        processes=[_share_cores(path, processes, n, rounds) for n in threads] if processes else [],
    )


def print_model(report: Report) -> None:
    """The report as a table."""
    print(f"{report['model']} ({report['types']}), kernels: {report['isa']}")
    print(f"{'threads':<9}{'case':<8}{'HALO':>9}{'llama.cpp':>11}{'ratio':>8}")
    for f in report["results"]:
        unit = "t/s" if f["case"] == "prompt" else "ms"
        theirs = "-" if f["llama_cpp"] is None else f"{f['llama_cpp']:.1f}"
        ratio = "-" if f["ratio"] is None else f"{f['ratio']:.2f}"
        print(f"{f['threads']:<9}{f['case']:<8}{f['value']:>9.1f}{theirs:>11}{ratio:>8} {unit}")
    g = report["group"]
    print(
        f"one of {g['groups']} MLP groups ({g['neurons']} neurons): {g['group_us']} us, "
        f"{g['ratio']:.2f} of its share of a layer's {g['layer_us']} us"
    )
    for p in report["processes"]:
        print(
            f"{p['processes']} processes of {p['threads']} threads on {p['cores']} cores: {p['value']:.1f} ms a token, "
            f"{p['ratio']:.2f} of the ideal {p['ideal']:.1f} ms (one alone: {p['alone']:.1f} ms)"
        )
