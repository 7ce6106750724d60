"""What a model costs in processes of its own: several that share the cores, and the memory of one."""

from __future__ import annotations

import multiprocessing
import os
import re
import statistics
import time
from math import prod
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypedDict

import numpy as np

from halo import _native
from halo.bench.engines import GENERATED, PROMPT, Ours, seconds_a_token
from halo.errors import HaloError
from halo.model import Model, open_model

_LOADING_S = 300.0  # for all processes to have the model open; then those that wait for one that died give up
SHARDS = 3
_STATUS = Path("/proc/self/status")


class Processes(TypedDict):
    """Several processes at once; ms per token. `ratio` of 1: as if the whole machine worked for one after the other."""

    processes: int
    threads: int  # of each
    cores: int
    alone: float  # one process with as many threads as cores: the machine may be limited by its memory
    value: float  # the mean of all
    ideal: float  # alone * processes
    ratio: float  # value / ideal


class Memory(TypedDict):
    """Bytes that stay in memory once a model is loaded, against those of the packed weights in the file.

    And those of a worker that holds one of `SHARDS` shards, with the seconds that loading it from the system's cache of
    the file takes.
    """

    resident: int
    weights: int
    ratio: float
    shard: int
    shard_s: float


def _generate_alone(path: Path, threads: int, rounds: int, start: Barrier, times: SimpleQueue[float]) -> None:
    """One of several processes: the median of its seconds a token, while all of them run."""
    engine = Ours(path, 2 * PROMPT, threads)
    tokens = np.arange(3, 3 + GENERATED, dtype=np.int32)
    engine.feed(tokens)
    start.wait(_LOADING_S)
    taken = []
    for _ in range(rounds):
        engine.keep(0)
        taken.append(seconds_a_token(engine, tokens, True))
    times.put(statistics.median(taken))


def _together(path: Path, processes: int, threads: int, rounds: int) -> float:
    """Seconds a token of so many processes at once, the mean of all."""
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
    return statistics.mean(taken)


def bench_processes(path: Path, processes: int, threads: int, rounds: int) -> Processes:
    """Measure so many processes at once, each with so many threads and an engine of its own."""
    cores = len(os.sched_getaffinity(0))
    alone = _together(path, 1, cores, rounds)
    value = _together(path, processes, threads, rounds)
    ideal = alone * processes
    return Processes(
        processes=processes,
        threads=threads,
        cores=cores,
        alone=round(1000 * alone, 2),
        value=round(1000 * value, 2),
        ideal=round(1000 * ideal, 2),
        ratio=round(value / ideal, 3),
    )


def _resident_now() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) * 1024 if found else 0


def _load_alone(path: Path, shards: int, found: SimpleQueue[tuple[int, float]]) -> None:
    """In a process of its own: bytes that it has grown by, and seconds; a shard is loaded as a worker does."""
    before = _resident_now()
    model = open_model(path).native
    masks = _native.shard_masks(model, 0, shards)
    start = time.perf_counter()
    model.load(masks, output=shards == 1)
    found.put((_resident_now() - before, time.perf_counter() - start))
    del model


def _packed_bytes(model: Model) -> int:
    """All matrices but the embedding, of which only rows are looked up (it is packed where it is the head as well)."""
    sizes = {number: (block, size) for number, block, size in _native.weight_types().values()}
    tensors = model.file.tensors
    left_out = {"token_embd.weight"} if "output.weight" in tensors else set()
    total = 0
    for tensor in tensors.values():
        block, size = sizes[model.converted.table.get(tensor.name, (tensor.type,))[0]]
        if len(tensor.shape) > 1 and tensor.name not in left_out:
            total += prod(tensor.shape) // block * size
    return total


def bench_memory(path: Path) -> Memory | None:
    """Load the model in a process of its own and see what it holds; None where the system does not tell."""
    if not _STATUS.exists():
        return None
    resident, _ = _measured_alone(path, 1)
    shard, seconds = _measured_alone(path, SHARDS)
    weights = _packed_bytes(open_model(path))
    return Memory(
        resident=resident, weights=weights, ratio=round(resident / weights, 3), shard=shard, shard_s=round(seconds, 3)
    )


def _measured_alone(path: Path, shards: int) -> tuple[int, float]:
    context = multiprocessing.get_context("spawn")
    found: SimpleQueue[tuple[int, float]] = context.SimpleQueue()
    process = context.Process(target=_load_alone, args=(path, shards, found))
    process.start()
    process.join()
    if process.exitcode:
        raise HaloError("The process that measures memory failed; is there enough of it for the model?")
    return found.get()
