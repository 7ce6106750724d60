"""`halo bench generate`: tokens through the engine, the same ones under each network."""

from __future__ import annotations

import time
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halo.bench.cell import BenchCell
from halo.bench.segments import SEGMENT, Sample, alternate, report

_SLOT = 0


def positions(prompt_tokens: int) -> int:
    """How long the context has to be."""
    return prompt_tokens + SEGMENT + 1


def bench_generate(bench: BenchCell, vocab: int, tokens: int, prompt_tokens: int) -> dict[str, Any]:
    """Figures of `tokens` tokens and of the prompts before each segment of them.

    `same_bits`: whether each segment had the logits of the first one, bit by bit; they compute the same positions.
    """
    engine = bench.cell.engine
    prompt = np.random.default_rng(0).integers(3, vocab, prompt_tokens).astype(np.int32)
    logits: NDArray[np.float32] = np.zeros((1, vocab), np.float32)
    sums: set[tuple[int, ...]] = set()

    def step() -> None:
        nonlocal logits
        logits = engine.forward(_SLOT, np.array([logits[-1].argmax()], np.int32))

    def read_prompt(sample: Sample) -> None:
        nonlocal logits
        engine.truncate(_SLOT, 0)
        start = time.perf_counter()
        logits = engine.forward(_SLOT, prompt)
        sample.prompts.append(time.perf_counter() - start)
        step()

    def segment(sample: Sample, count: int) -> None:
        seen = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            sample.tokens.append(time.perf_counter() - start)
            seen.append(zlib.crc32(logits.tobytes()))
        sums.add(tuple(seen))

    read_prompt(Sample())
    samples = alternate(bench, tokens, read_prompt, segment)
    longest = max(sums, key=len)
    same = all(one == longest[: len(one)] for one in sums)
    return {"prompt_tokens": prompt_tokens, "same_bits": same, **report(samples)}
