"""`halo bench`: measure a part of HALO; `sync` is the exchange without any computing."""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from halo.cell.hub import Cell
from halo.cli.console import patience, say
from halo.cli.options import Commands, add_cell, add_model, broker_of, command, positive, within

_WHAT = "measure syncs: one message to every worker and one answer from each, nothing computed"
_EXAMPLES = """\
  halo bench sync --workers 4                     four workers on this machine
  halo bench sync --workers 3 --broker mqtt://pi1 --tokens 200 --json

The messages are those of one token of TinyLlama 1.1B: 44 syncs of 2048 values.
"""
_SYNCS = 44  # of a token: two in each of 22 layers
_VALUES = 2048
_REQUEST = _VALUES // 32 * 34  # bytes, as Q8_0
_REPLY = _VALUES * 4  # bytes, as `fixed`


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="measure a part of HALO")
    parts = parser.add_subparsers(title="what to measure", metavar="PART", required=True)
    sync = command(parts, "sync", _WHAT, _EXAMPLES, run)
    add_cell(sync)
    add_model(sync)
    sync.add_argument("--workers", type=within("workers", least=1), required=True, metavar="N", help="how many workers")
    sync.add_argument("--tokens", type=positive, default=50, metavar="N", help="how many times 44 syncs (default: 50)")
    sync.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Open a cell, exchange, print."""
    from halo.model import demo_model, open_model

    model = open_model(args.model or demo_model())
    with (
        patience("waiting for the workers"),
        Cell.open(model, workers=args.workers, broker=broker_of(args), cell=args.cell, n_ctx=256, log=say) as cell,
    ):
        figures = measure(cell, args.tokens)
    if args.json:
        print(json.dumps({"workers": args.workers, **figures}))
    else:
        print(
            f"sync, {args.workers} workers: median {figures['median_ms']} ms, p95 {figures['p95_ms']}, "
            f"p99 {figures['p99_ms']}, max {figures['max_ms']}\n"
            f"token of {_SYNCS} syncs: median {figures['token_median_ms']} ms, max {figures['token_max_ms']}"
        )
    return 0


def measure(cell: Cell, tokens: int) -> dict[str, Any]:
    """Milliseconds of `tokens` x 44 syncs, after one token that warms everything up."""
    for _ in range(_SYNCS):
        cell.engine.probe(_REQUEST, _REPLY)
    syncs = [1e3 * cell.engine.probe(_REQUEST, _REPLY) for _ in range(_SYNCS * tokens)]
    sums = [sum(syncs[i : i + _SYNCS]) for i in range(0, len(syncs), _SYNCS)]
    ordered = sorted(syncs)

    def quantile(q: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 3)

    return {
        "syncs": len(syncs),
        "request_bytes": _REQUEST,
        "reply_bytes": _REPLY,
        "median_ms": round(statistics.median(syncs), 3),
        "p95_ms": quantile(0.95),
        "p99_ms": quantile(0.99),
        "max_ms": round(ordered[-1], 3),
        "token_median_ms": round(statistics.median(sums), 1),
        "token_max_ms": round(max(sums), 1),
    }
