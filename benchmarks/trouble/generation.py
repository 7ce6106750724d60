"""Tokens through a stage's engine, each timed and with the bits of its logits, and trouble in the middle of some."""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.trouble.stage import Stage, Work
from halo.errors import HaloError

PROMPT = 16
_SLOT = 0
Act = Callable[[], None]


@dataclass
class Run:
    """Greedy tokens after one prompt. `times` in seconds; `bits`: checksums of the logits."""

    tokens: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cancelled: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def longest(self, usual: float) -> float:
        """How many seconds longer than usual its longest token took."""
        return max(self.times) - usual

    def same(self, other: Run) -> bool:
        """Whether they agree, bit by bit, as far as both go."""
        n = min(len(self.tokens), len(other.tokens))
        return self.tokens[:n] == other.tokens[:n] and self.bits[:n] == other.bits[:n]


def generate(
    stage: Stage, n: int, acts: Mapping[int, Act] | None = None, *, usual_s: float = 0.0, retries: int = 0
) -> Run:
    """`n` tokens after the prompt, with each act in the middle (of `usual_s`) of its token.

    `retries`: how often a token that was cancelled may be asked for again; raises HaloError for more.
    """
    engine, run = stage.engine, Run()
    engine.truncate(_SLOT, 0)
    logits = engine.forward(_SLOT, prompt(stage.vocab))
    while len(run.tokens) < n:
        number = len(run.tokens)
        token = int(logits[-1].argmax())
        if acts is not None and number in acts:
            stage.direct(acts[number], usual_s / 2)
        start = time.perf_counter()
        try:
            logits = engine.forward(_SLOT, np.array([token], np.int32))
        except HaloError:
            run.cancelled += 1
            if run.cancelled > retries or engine.n_past(_SLOT) != PROMPT + number:
                raise
            logits = engine.forward(_SLOT, np.array([token], np.int32))
        run.times.append(time.perf_counter() - start)
        run.tokens.append(token)
        run.bits.append(zlib.crc32(logits.tobytes()))
    stage.settle()
    return run


def prompt(vocab: int) -> NDArray[np.int32]:
    """Always the same one."""
    return np.random.default_rng(0).integers(3, vocab, PROMPT).astype(np.int32)


def until_used(stage: Stage, worker: int, patience_s: float) -> float | None:
    """Generate until that worker computes groups (again); the seconds that it took, or None."""
    name = stage.workers[worker].name
    start = time.perf_counter()
    before = stage.work().get(name, Work()).group_results
    while time.perf_counter() < start + patience_s:
        generate(stage, 2)
        if stage.work().get(name, Work()).group_results > before:
            return time.perf_counter() - start
    return None


@dataclass
class Sample:
    """Times of tokens, and what each device did meanwhile."""

    times: list[float] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)
    bits: set[int] = field(default_factory=set)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.times)

    def share(self, name: str) -> float:
        """Of the group results."""
        return self.work.get(name, Work()).group_results / max(1, sum(w.group_results for w in self.work.values()))

    def stood_in(self) -> float:
        """The share of the workers' requests that somebody else computed."""
        workers = [w for name, w in self.work.items() if name != "hub"]
        return sum(w.stand_ins for w in workers) / max(1, sum(w.requests for w in workers))


def alternate(stage: Stage, ways: list[Act], rounds: int, n: int) -> list[Sample]:
    """Stretches of `n` tokens, each of the ways in turn, `rounds` times; a way prepares the stage for its stretch."""
    samples = [Sample() for _ in ways]
    for _ in range(rounds):
        for way, sample in zip(ways, samples, strict=True):
            way()
            generate(stage, 2)
            before = stage.work()
            run = generate(stage, n)
            after = stage.work()
            sample.times += run.times
            sample.bits.add(zlib.crc32(np.array(run.bits, np.uint32).tobytes()))
            for name, work in after.items():
                sample.work[name] = sample.work.get(name, Work()) + (work - before.get(name, Work()))
    return samples
