"""`halo bench sync`: the exchange without any computing; every worker gets a message and answers with another."""

from __future__ import annotations

import math
import statistics
from typing import Any

from halo.bench.cell import BenchCell
from halo.bench.segments import Sample, alternate, report

SYNCS = 44  # of a token: two in each of TinyLlama's 22 layers
_VALUES = 2048
_REQUEST = _VALUES // 32 * 34  # bytes, as Q8_0
_VALUE_BYTES = {"fixed": 4, "f32": 4, "f16": 2}


_FRAGMENT = 1136  # bytes of a message in a packet, at most
_HEADER = 64  # bytes of a message beside its values
_PACKET = 64  # bytes of a packet beside its fragment
_ECHO_ROUNDS = 150


def bench_sync(
    bench: BenchCell, workers: int, tokens: int, partials: str, reply_bytes: int | None, *, with_echo: bool = False
) -> dict[str, Any]:
    """Figures of `tokens` x 44 syncs, under each network; an answer is as large as `partials` unless given.

    `with_echo`: rounds of bare datagrams of the same sizes alternate with the tokens, to compare with.
    """
    echoes: list[float] = []
    reply = reply_bytes or _VALUES * _VALUE_BYTES[partials]
    probe = bench.cell.engine.probe

    def settle(sample: Sample) -> None:
        """One token that does not count: what the other network has left behind is over after it."""
        if with_echo:
            echoes.extend(bench.echo(_on_the_wire(_REQUEST), _on_the_wire(reply), _ECHO_ROUNDS))
        probe(_REQUEST, reply, SYNCS)

    def segment(sample: Sample, count: int) -> None:
        for _ in range(count):
            syncs = probe(_REQUEST, reply, SYNCS)
            sample.syncs += syncs
            sample.tokens.append(sum(syncs))

    probe(_REQUEST, reply, SYNCS)
    samples = alternate(bench, tokens, settle, segment)
    payload = SYNCS * workers * (_REQUEST + reply)
    found = {"request_bytes": _REQUEST, "reply_bytes": reply, **report(samples, payload)}
    if with_echo:
        echo = statistics.median(echoes)
        found |= {"echo_p50_ms": round(1e3 * echo, 3)}
        found["to_echo"] = round(found["mean_ms"] / (1e3 * SYNCS * echo), 3)
    return found


def _on_the_wire(message: int) -> int:
    """Bytes of the UDP payloads of one message, without parity."""
    size = _HEADER + message
    return size + _PACKET * math.ceil(size / _FRAGMENT)
