"""`halo bench sync`: the exchange without any computing; every worker gets a message and answers with another."""

from __future__ import annotations

import statistics
from typing import Any

from halo.cell.hub import Cell

SYNCS = 44  # of a token: two in each of TinyLlama's 22 layers
_VALUES = 2048
_REQUEST = _VALUES // 32 * 34  # bytes, as Q8_0
_VALUE_BYTES = {"fixed": 4, "f32": 4, "f16": 2}


def bench_sync(cell: Cell, tokens: int, partials: str = "fixed") -> dict[str, Any]:
    """Milliseconds of `tokens` x 44 syncs, after one token that warms everything up; replies as large as `partials`."""
    reply = _VALUES * _VALUE_BYTES[partials]
    for _ in range(SYNCS):
        cell.engine.probe(_REQUEST, reply)
    syncs = [1e3 * cell.engine.probe(_REQUEST, reply) for _ in range(SYNCS * tokens)]
    sums = [sum(syncs[i : i + SYNCS]) for i in range(0, len(syncs), SYNCS)]
    ordered = sorted(syncs)

    def quantile(q: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 3)

    return {
        "syncs": len(syncs),
        "request_bytes": _REQUEST,
        "reply_bytes": reply,
        "median_ms": round(statistics.median(syncs), 3),
        "p95_ms": quantile(0.95),
        "p99_ms": quantile(0.99),
        "max_ms": round(ordered[-1], 3),
        "token_median_ms": round(statistics.median(sums), 1),
        "token_max_ms": round(max(sums), 1),
    }


def print_sync(workers: int, figures: dict[str, Any]) -> None:
    """The figures as two lines."""
    print(
        f"sync, {workers} workers: median {figures['median_ms']} ms, p95 {figures['p95_ms']}, "
        f"p99 {figures['p99_ms']}, max {figures['max_ms']}\n"
        f"token of {SYNCS} syncs: median {figures['token_median_ms']} ms, max {figures['token_max_ms']}"
    )
