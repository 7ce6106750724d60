"""`halo bench model -m MODEL`: time per token and prompt tokens/s of one device, next to llama.cpp's in the same run.

Both engines hold the model at once and take turns, round by round; medians are reported. Tokens are arbitrary:
speed does not depend on them. With several processes at once, each with an engine of its own, their time per token
stands against its ideal: that of one process times how many of them share a core.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from halo import _native
from halo.bench.engines import GENERATED, PROMPT, Engine, Tokens, engines, seconds_a_token
from halo.bench.group import GroupFigure, bench_group
from halo.bench.processes import SHARDS, Memory, Processes, bench_memory, bench_processes
from halo.model import open_model


class Figure(TypedDict):
    """One case: "token" and "long" (at a filled context) in ms per token, "prompt" in tokens/s."""

    threads: int
    case: str
    value: float
    llama_cpp: float | None
    ratio: float | None  # above 1 HALO is the faster one


class Report(TypedDict):
    isa: str
    model: str
    types: str
    results: list[Figure]
    group: GroupFigure
    memory: Memory | None
    processes: list[Processes]


def _measure(engines: Sequence[Engine], start: int, tokens: Tokens, one_by_one: bool, rounds: int) -> list[float]:
    times: list[list[float]] = [[] for _ in engines]
    for counted in range(rounds + 1):  # the first one does not count
        for engine, taken in zip(engines, times, strict=True):
            engine.keep(start)
            seconds = seconds_a_token(engine, tokens, one_by_one)
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


def bench_model(
    path: Path, threads: Sequence[int] = (1, 2), rounds: int = 5, context: int = 0, processes: int = 0
) -> Report:
    """Measure a model file; with `context`, also the time per token after so many positions; with `processes`, also
    that of so many processes at once."""
    model = open_model(path)
    model.native.load()
    tokens = np.random.default_rng(0).integers(3, model.spec.vocab, PROMPT + context).astype(np.int32)
    results = []
    for n in threads:
        compared = engines(model.path, max(2 * PROMPT, context + PROMPT), n)
        results.append(_figure(n, "prompt", _measure(compared, 0, tokens[:PROMPT], False, rounds)))
        results.append(_figure(n, "token", _measure(compared, 8, tokens[:GENERATED], True, rounds)))
        if context:
            for engine in compared:
                engine.keep(0)
                engine.feed(tokens[:context])
            results.append(_figure(n, "long", _measure(compared, context, tokens[:GENERATED], True, rounds)))
    return Report(
        isa=_native.isa(),
        model=model.name,
        types=model.types,
        results=results,
        group=bench_group(model, rounds),
        memory=bench_memory(path),
        processes=[bench_processes(path, processes, n, rounds) for n in threads] if processes else [],
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
    if report["memory"] is not None:
        m = report["memory"]
        print(f"resident: {m['resident'] / 1e6:.1f} MB, {m['ratio']:.3f} of the packed weights in the file")
        print(f"one of {SHARDS} shards: {m['shard'] / 1e6:.1f} MB, loaded in {m['shard_s']:.2f} s")
    for p in report["processes"]:
        print(
            f"{p['processes']} processes of {p['threads']} threads on {p['cores']} cores: {p['value']:.1f} ms a token, "
            f"{p['ratio']:.2f} of the ideal {p['ideal']:.1f} ms (one after the other)"
        )
