"""`halo bench sync`: the exchange without any computing; every worker gets a message and answers with another."""

from __future__ import annotations

from typing import Any

from halo.bench.cell import BenchCell
from halo.bench.segments import Sample, alternate, report

SYNCS = 44  # of a token: two in each of TinyLlama's 22 layers
_VALUES = 2048
_REQUEST = _VALUES // 32 * 34  # bytes, as Q8_0
_VALUE_BYTES = {"fixed": 4, "f32": 4, "f16": 2}


def bench_sync(bench: BenchCell, workers: int, tokens: int, partials: str, reply_bytes: int | None) -> dict[str, Any]:
    """Figures of `tokens` x 44 syncs, under each network; an answer is as large as `partials` unless given."""
    reply = reply_bytes or _VALUES * _VALUE_BYTES[partials]
    probe = bench.cell.engine.probe

    def settle(sample: Sample) -> None:
        """One token that does not count: what the other network has left behind is over after it."""
        probe(_REQUEST, reply, SYNCS)

    def segment(sample: Sample, count: int) -> None:
        for _ in range(count):
            syncs = probe(_REQUEST, reply, SYNCS)
            sample.syncs += syncs
            sample.tokens.append(sum(syncs))

    settle(Sample())
    samples = alternate(bench, tokens, settle, segment)
    payload = SYNCS * workers * (_REQUEST + reply)
    return {"request_bytes": _REQUEST, "reply_bytes": reply, **report(samples, payload)}
