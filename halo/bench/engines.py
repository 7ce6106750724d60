"""The engines that whole-model benchmarks compare, and how they are timed."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.model import open_model

Tokens = NDArray[np.int32]
PROMPT, GENERATED = 128, 8


class Engine(Protocol):
    """What is measured of an engine."""

    def feed(self, tokens: Tokens) -> None: ...
    def keep(self, n: int) -> None: ...


class Ours:
    """HALO alone, without workers."""

    def __init__(self, path: Path, n_ctx: int, threads: int) -> None:
        model = open_model(path).native
        model.load()
        self._engine = _native.Engine(model, n_ctx, threads=threads)

    def feed(self, tokens: Tokens) -> None:
        self._engine.forward(0, tokens)

    def keep(self, n: int) -> None:
        self._engine.truncate(0, n)


class LlamaCpp:
    """llama.cpp by llama-cpp-python, with its defaults."""

    def __init__(self, path: Path, n_ctx: int, threads: int) -> None:
        from halo.llama import open_llama  # part of the [hub] extra: a worker has none

        self._llama: Any = open_llama(path, n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, logits_all=False)

    def feed(self, tokens: Tokens) -> None:
        self._llama.eval(tokens.tolist())

    def keep(self, n: int) -> None:
        self._llama.n_tokens = n  # eval removes what lies beyond from the cache


def engines(path: Path, n_ctx: int, threads: int) -> list[Engine]:
    """HALO, and llama.cpp where it is installed. Raises ModelError for a model that it cannot open."""
    found: list[Engine] = [Ours(path, n_ctx, threads)]
    with contextlib.suppress(ImportError):
        found.append(LlamaCpp(path, n_ctx, threads))
    return found


def seconds_a_token(engine: Engine, tokens: Tokens, one_by_one: bool) -> float:
    """Seconds a token."""
    start = time.perf_counter()
    for piece in np.split(tokens, len(tokens)) if one_by_one else [tokens]:
        engine.feed(piece)
    return (time.perf_counter() - start) / len(tokens)
