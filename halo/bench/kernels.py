"""`halo bench kernels`: GB/s of weights and GFLOP/s of the products with one thread, next to llama.cpp's.

Everything is interleaved: each round runs every candidate, and what is reported is the median over rounds, so that what
else the machine does hits all of them alike. Times are the thread's own CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.bench.ggml import BareDots, Ggml, Products, load_ggml

ROWS, COLUMNS = 5632, 2048
PROMPT_ROWS = 32
CASES = ("dram", "hot", "prompt")
DRAM_BYTES = 256 << 20  # cycled through, so that no cache holds what comes next

# The types that are measured, and where the f16 scales of a block are.
SCALES: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "IQ4_NL": (0,), "Q8_0": (0,),
    "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "F16": (0,),
}  # fmt: skip


class Figure(TypedDict):
    """One type in one case: "dram" and "hot" are one row of activations, "prompt" is 32 of them."""

    type: str
    case: str
    gb_s: float
    gflop_s: float
    llama_cpp_gb_s: float | None  # the best of ggml's plain and repacked graphs and its bare vec_dot
    llama_cpp_best: str | None  # which of them: "plain", "repacked" or "vec_dot"
    ratio: float | None


class ErrorFigure(TypedDict):
    """Relative root mean square error of products, against those of exactly dequantised weights and unrounded x."""

    type: str
    error: float
    llama_cpp_error: float | None


class Report(TypedDict):
    isa: str
    bandwidth_gb_s: float
    kernels: list[Figure]
    errors: list[ErrorFigure]


def number_of(kind: str) -> int:
    """ggml's number of a type."""
    return _native.weight_types()[kind][0]


def random_weights(kind: str, rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> bytes:
    """Random quants with sensible scales."""
    drawn = np.random.default_rng(seed)
    _, block, size = _native.weight_types()[kind]
    blocks = drawn.integers(0, 256, (rows * columns // block, size), np.uint8)
    for at in SCALES[kind]:
        scale = (drawn.standard_normal(len(blocks)) * 0.05).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()


def median_seconds(candidates: Sequence[Callable[[], None]], rounds: int, warm: bool = False) -> list[float]:
    """Median time of each, in interleaved rounds after one that does not count. With `warm`, each runs once untimed
    before it is timed: what the others left in the cache does not matter."""
    times: list[list[float]] = [[] for _ in candidates]
    for counted in range(rounds + 1):
        for taken, run in zip(times, candidates, strict=True):
            if warm:
                run()
            start = time.thread_time()
            run()
            if counted:
                taken.append(time.thread_time() - start)
    return [statistics.median(t) for t in times]


def bandwidth(rounds: int) -> float:
    """GB/s at which one thread reads memory: the best of several ways, an upper bound for every product."""
    memory = _native.Readable(DRAM_BYTES)

    def reading(streams: int, ahead: int) -> Callable[[], None]:
        def run() -> None:
            memory.read(streams, ahead)

        return run

    ways = [reading(streams, ahead) for streams in (1, 2, 4, 8) for ahead in (0, 8, 16, 32)]
    return DRAM_BYTES / min(median_seconds(ways, rounds)) / 1e9


def our_product(
    kernels: _native.Kernels, kind: str, data: bytes, copies: int, x: NDArray[np.float32]
) -> Callable[[], None]:
    matrices = [kernels.pack(number_of(kind), ROWS, COLUMNS, data) for _ in range(copies)]
    y = np.empty((len(x), ROWS), np.float32)

    def run() -> None:
        for matrix in matrices:
            matrix.multiply(matrix.prepare(x), 0, y)

    return run


def their_products(
    ggml: Ggml | None, kind: str, data: bytes, copies: int, x: NDArray[np.float32]
) -> dict[str, Callable[[], None]]:
    """llama.cpp's ways to the same products."""
    if ggml is None:
        return {}
    buffer_types = {"plain": ggml.ggml_backend_cpu_buffer_type(), "repacked": ggml.repacked_buffer_type()}
    number = number_of(kind)
    graphs = {
        name: Products(ggml, buffer_type, number, ROWS, [data] * copies, x)
        for name, buffer_type in buffer_types.items()
        if buffer_type is not None
    }
    ways = {name: graph.run for name, graph in graphs.items() if graph.supported}
    if ggml.has_known_traits():
        ways["vec_dot"] = BareDots(ggml, number, ROWS, [data] * copies, x).run
    return ways


def measure(kernels: _native.Kernels, ggml: Ggml | None, kind: str, case: str, rounds: int) -> Figure:
    data = random_weights(kind)
    copies = -(-DRAM_BYTES // len(data)) if case == "dram" else 1
    x = np.random.default_rng(1).standard_normal((PROMPT_ROWS if case == "prompt" else 1, COLUMNS)).astype(np.float32)
    ours = our_product(kernels, kind, data, copies, x)
    theirs = their_products(ggml, kind, data, copies, x)
    cached = case != "dram"
    seconds, *others = median_seconds([ours, *theirs.values()], 8 * rounds if cached else rounds, warm=cached)
    moved = len(data) * copies
    best, name = min(zip(others, theirs, strict=True), default=(None, None))
    return Figure(
        type=kind,
        case=case,
        gb_s=round(moved / seconds / 1e9, 2),
        gflop_s=round(2 * ROWS * COLUMNS * copies * len(x) / seconds / 1e9, 1),
        llama_cpp_gb_s=None if best is None else round(moved / best / 1e9, 2),
        llama_cpp_best=name,
        ratio=None if best is None else round(best / seconds, 3),
    )


def measure_error(kernels: _native.Kernels, ggml: Ggml | None, kind: str) -> ErrorFigure:
    rows, number = 512, number_of(kind)
    data = random_weights(kind, rows)
    x = np.random.default_rng(2).standard_normal((8, COLUMNS)).astype(np.float32)
    truth = x.astype(np.float64) @ _native.dequantize(number, data).reshape(rows, COLUMNS).astype(np.float64).T

    def error(y: NDArray[np.float32]) -> float:
        return float(np.linalg.norm(y - truth) / np.linalg.norm(truth))

    matrix, y = kernels.pack(number, rows, COLUMNS, data), np.empty((len(x), rows), np.float32)
    matrix.multiply(matrix.prepare(x), 0, y)
    theirs = None
    if ggml is not None:
        graph = Products(ggml, ggml.ggml_backend_cpu_buffer_type(), number, rows, [data], x)
        graph.run()
        theirs = error(graph.result())
    return ErrorFigure(type=kind, error=error(y), llama_cpp_error=theirs)


def bench_kernels(
    isa: str | None = None,
    rounds: int = 9,
    types: Sequence[str] = tuple(SCALES),
    cases: Sequence[str] = ("dram", "hot", "prompt"),
) -> Report:
    """Measure the products of a 5632 x 2048 matrix with one thread, and this machine's read bandwidth."""
    name = isa or _native.isa()
    kernels, ggml = _native.Kernels(name), load_ggml()
    figures = [measure(kernels, ggml, kind, case, rounds) for kind in types for case in cases]
    errors = [measure_error(kernels, ggml, kind) for kind in types]
    return Report(isa=name, bandwidth_gb_s=round(bandwidth(rounds), 2), kernels=figures, errors=errors)


def print_kernels(report: Report) -> None:
    """The report as a table."""
    print(f"kernels: {report['isa']}; one thread reads {report['bandwidth_gb_s']} GB/s from memory")
    print(f"{'type':<8}{'case':<8}{'GB/s':>8}{'GFLOP/s':>10}{'llama.cpp GB/s':>16}{'ratio':>8}  llama.cpp's best")
    for f in report["kernels"]:
        theirs = "-" if f["llama_cpp_gb_s"] is None else f"{f['llama_cpp_gb_s']:.1f}"
        ratio = "-" if f["ratio"] is None else f"{f['ratio']:.2f}"
        best = f["llama_cpp_best"] or ""
        print(f"{f['type']:<8}{f['case']:<8}{f['gb_s']:>8.1f}{f['gflop_s']:>10.0f}{theirs:>16}{ratio:>8}  {best}")
    print("relative error against exactly dequantised weights, and llama.cpp's")
    for e in report["errors"]:
        theirs = "-" if e["llama_cpp_error"] is None else f"{e['llama_cpp_error']:.2e}"
        print(f"{e['type']:<8}{e['error']:>10.2e}{theirs:>10}")
