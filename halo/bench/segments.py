"""Times of tokens under two networks that alternate within one run, and what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from halo.bench.cell import BenchCell, Usage

SEGMENT = 20  # tokens
_HEADERS = 14 + 20 + 8  # bytes of Ethernet, IPv4 and UDP in a frame


@dataclass
class Sample:
    """What has been measured under one network. Times in seconds."""

    tokens: list[float] = field(default_factory=list)
    syncs: list[float] = field(default_factory=list)
    prompts: list[float] = field(default_factory=list)
    spent: list[tuple[Usage, Usage]] = field(default_factory=list)

    def total(self, name: str) -> float | None:
        """How much of `Usage.name` was spent on all the tokens."""
        ends = [(getattr(before, name), getattr(after, name)) for before, after in self.spent]
        return None if any(after is None for _, after in ends) else sum(after - before for before, after in ends)


Segment = Callable[[Sample, int], None]
"""Adds the times of so many tokens to a sample."""


def alternate(bench: BenchCell, tokens: int, prepare: Callable[[Sample], None], segment: Segment) -> list[Sample]:
    """Measure `tokens` tokens under each network: the good one, and, if there is one, the lossy one after it.

    `prepare` is called before each segment, under its network; it is there to bring the cell into the same state.
    """
    samples = [Sample(), Sample()] if bench.lossy else [Sample()]
    for done in range(0, tokens, SEGMENT):
        for lossy, sample in enumerate(samples):
            bench.lose(bool(lossy))
            prepare(sample)
            before = bench.usage()
            segment(sample, min(SEGMENT, tokens - done))
            sample.spent.append((before, bench.usage()))
    bench.lose(False)
    return samples


def figures(sample: Sample, payload: int | None = None) -> dict[str, Any]:
    """Per token, in milliseconds; `payload`: the bytes of a token that had to be carried."""
    n = len(sample.tokens)
    found: dict[str, Any] = {
        "tokens": n,
        "mean_ms": _ms(statistics.fmean(sample.tokens)),
        "p50_ms": _ms(statistics.median(sample.tokens)),
        "p95_ms": _ms(quantile(sample.tokens, 0.95)),
        "max_ms": _ms(max(sample.tokens)),
    }
    if sample.syncs:
        found["syncs"] = len(sample.syncs)
        found["sync_p50_ms"] = _ms(statistics.median(sample.syncs))
        found["sync_p99_ms"] = _ms(quantile(sample.syncs, 0.99))
    if sample.prompts:
        found["prompt_p50_ms"] = _ms(statistics.median(sample.prompts))
    for name, key in (("bytes", "bytes_per_token"), ("datagrams", "datagrams_per_token"), ("lost", "lost_per_token")):
        total = sample.total(name)
        found[key] = None if total is None else round(total / n, 1)
    if payload:
        found["overhead"] = round(found["bytes_per_token"] / payload, 3)
        if found["datagrams_per_token"] is not None:
            headers = _HEADERS * found["datagrams_per_token"]
            found["payload_overhead"] = round((found["bytes_per_token"] - headers) / payload, 3)
    for name, key in (("cpu_s", "hub_cpu_ms"), ("switch_s", "switch_cpu_ms")):
        total = sample.total(name)
        found[key] = None if total is None else _ms(total / n)
    return found


def report(samples: Sequence[Sample], payload: int | None = None) -> dict[str, Any]:
    """The figures under the network that was asked for; with loss also those without, and the ratio of the means."""
    asked = figures(samples[-1], payload)
    if len(samples) == 1:
        return asked
    good = figures(samples[0], payload)
    return {**asked, "without_loss": good, "ratio": round(asked["mean_ms"] / good["mean_ms"], 3)}


def describe(conditions: Any) -> dict[str, Any]:
    """The conditions as they are printed: what is not 0."""
    return {} if conditions is None else {name: value for name, value in asdict(conditions).items() if value}


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    rows = [("undisturbed", found["without_loss"]), ("disturbed", found)] if "ratio" in found else [("", found)]
    told = []
    for name, f in rows:
        told.append(
            f"{name or 'token':<14}mean {f['mean_ms']}  p50 {f['p50_ms']}  p95 {f['p95_ms']}  max {f['max_ms']}  "
            f"({f['tokens']} tokens)"
        )
        if "sync_p50_ms" in f:
            told.append(f"{'':<14}a sync: p50 {f['sync_p50_ms']}  p99 {f['sync_p99_ms']}")
        if "prompt_p50_ms" in f:
            told.append(f"{'':<14}the prompt: p50 {f['prompt_p50_ms']}")
        carried = "" if f["datagrams_per_token"] is None else f" in {f['datagrams_per_token']} packets"
        lost = f", {f['lost_per_token']} of them lost" if f["lost_per_token"] else ""
        told.append(
            f"{'':<14}{f['bytes_per_token']} bytes a token{carried}{lost}; hub CPU {f['hub_cpu_ms']} ms a token"
        )
    if "echo_p50_ms" in found:
        told.append(
            f"{'bare echo':<14}p50 {found['echo_p50_ms']}; a token is {found['to_echo']} times its syncs in echoes"
        )
    if "ratio" in found:
        told.append(f"{'ratio':<14}{found['ratio']}")
    return told


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that is not below this share of them all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)
