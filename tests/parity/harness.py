"""Compares an engine's logits with llama.cpp's, teacher-forced: the same tokens go in, whatever comes out.

Equal text is a weak oracle (llama.cpp differs from itself after some tokens when flash attention is switched). So
every position of given texts is compared, and llama.cpp's own difference between flash attention off and on, on the
same tokens in the same run, is the measure of what rounding may do.

A position is clear where llama.cpp's two largest logits are more than MARGIN apart, with flash attention off and with
it on: on quantised files a single margin of llama.cpp's moves by more than that when flash attention is switched.

Errors are relative: root mean square (or largest absolute value) of the difference over all logits of all positions,
divided by the root mean square of llama.cpp's logits about each position's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from halo.engine import Engine
from tests.llama.oracle import Oracle

TEXTS, POSITIONS = 8, 200
MARGIN = 0.2  # of llama.cpp's two largest logits: nearer than that, rounding may choose
SEPARATOR = "<|endoftext|>"

Tokens = NDArray[np.int32]
Logits = NDArray[np.float32]  # (positions, vocabulary)
EngineFactory = Callable[[Path, int], AbstractContextManager[Engine]]  # model file, n_ctx


@contextmanager
def native_engine(path: Path, n_ctx: int) -> Iterator[Engine]:
    """HALO's own engine, alone on this device."""
    from halo import _native
    from halo.model import open_model

    yield _native.Engine(open_model(path).native, n_ctx)


def read_tokens(model: Path, texts: Path, count: int = TEXTS, positions: int = POSITIONS) -> list[Tokens]:
    """The first `positions` tokens, begin of sequence included, of the first `count` texts that are that long."""
    with closing(llama_cpp.Llama(str(model), vocab_only=True, verbose=False)) as llama:
        stories = texts.read_text(encoding="utf-8").split(SEPARATOR)
        rows = [llama.tokenize(story.strip().encode()) for story in stories if story.strip()]
    long_enough = [np.array(row[:positions], dtype=np.int32) for row in rows if len(row) >= positions]
    if len(long_enough) < count:
        raise ValueError(f"{texts} has {len(long_enough)} texts of {positions} tokens for {model}, not {count}")
    return long_enough[:count]


def random_tokens(vocab: int, count: int = 2, positions: int = 64) -> list[Tokens]:
    """Rows for models that make no sense."""
    drawn = np.random.default_rng(1)
    return [drawn.integers(3, vocab, positions).astype(np.int32) for _ in range(count)]


@contextmanager
def reference(model: Path, positions: int, *, flash_attn: bool) -> Iterator[Callable[[Tokens], Logits]]:
    """llama.cpp's logits of a text, evaluated as one batch."""
    with Oracle(model, positions, n_batch=positions, flash_attn=flash_attn) as llama:
        yield lambda tokens: in_one_batch(llama, tokens)


def in_one_batch(engine: Engine, tokens: Tokens) -> Logits:
    engine.truncate(0, 0)
    return engine.forward(0, tokens, True)


def one_at_a_time(engine: Engine, tokens: Tokens) -> Logits:
    engine.truncate(0, 0)
    return np.concatenate([engine.forward(0, tokens[i : i + 1]) for i in range(len(tokens))])


WAYS = {"one batch": in_one_batch, "one at a time": one_at_a_time}


def clear(logits: Logits) -> NDArray[np.bool_]:
    """Positions where the two largest logits are more than MARGIN apart."""
    top = np.partition(logits, -2, axis=-1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0] > MARGIN)


@dataclass
class Difference:
    """Of two sources of logits, gathered text by text."""

    squares: float = 0.0
    largest: float = 0.0
    count: int = 0
    flips: int = 0  # positions of another argmax where the reference alone looks clear

    def add(self, logits: Logits, reference: Logits) -> None:
        error = np.abs(logits.astype(np.float64) - reference)
        self.squares += float(np.square(error).sum())
        self.largest = max(self.largest, float(error.max()))
        self.count += error.size
        self.flips += int((clear(reference) & (logits.argmax(axis=-1) != reference.argmax(axis=-1))).sum())

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.squares / self.count))


@dataclass
class Parity:
    """How one model's logits agree: an engine, evaluated one way, with llama.cpp with flash attention off and on."""

    model: str
    way: str
    off: Difference = field(default_factory=Difference)  # engine - llama.cpp, flash attention off
    on: Difference = field(default_factory=Difference)
    own: Difference = field(default_factory=Difference)  # llama.cpp: on - off
    scale: Difference = field(default_factory=Difference)  # llama.cpp's logits about their means
    clear: int = 0  # positions that llama.cpp is clear about, flash attention off and on
    flips: int = 0  # those of them where the engine chooses another token

    def add(self, logits: Logits, off: Logits, on: Logits) -> None:
        """Gather one text: the engine's logits and llama.cpp's."""
        self.off.add(logits, off)
        self.on.add(logits, on)
        self.own.add(on, off)
        self.scale.add(off, np.broadcast_to(off.mean(axis=-1, keepdims=True), off.shape))
        token = off.argmax(axis=-1)
        sure = clear(off) & clear(on) & (on.argmax(axis=-1) == token)
        self.clear += int(sure.sum())
        self.flips += int((sure & (logits.argmax(axis=-1) != token)).sum())

    def ratio(self) -> float:
        """Root mean square error, against flash attention off or on, in units of llama.cpp's own difference."""
        return max(self.off.rms, self.on.rms) / self.own.rms

    def largest_ratio(self) -> float:
        """The same of the largest errors: two extreme values, so it is shown and not tested."""
        return max(self.off.largest, self.on.largest) / self.own.largest

    def row(self) -> str:
        """A line of the table that `HEAD` begins."""
        scale = self.scale.rms
        largest = max(self.off.largest, self.on.largest)
        return (
            f"| {self.model} | {self.way} | {self.off.rms / scale:.1e} | {self.on.rms / scale:.1e} "
            f"| {self.own.rms / scale:.1e} | {self.ratio():.2f} "
            f"| {largest / scale:.1e} | {self.own.largest / scale:.1e} | {self.largest_ratio():.2f} "
            f"| {self.flips} of {self.clear} | {self.off.flips}, {self.on.flips}, {self.own.flips} |"
        )


def difference(
    model: Path,
    texts: Path,
    make_engine: EngineFactory,
    make_exact: EngineFactory,
    *,
    count: int = TEXTS,
    positions: int = POSITIONS,
) -> str:
    """How one engine's logits differ from another's: a line with relative errors, and positions of another argmax."""
    error, scale = Difference(), Difference()
    other = total = 0
    with make_engine(model, positions) as engine, make_exact(model, positions) as exact_engine:
        for tokens in read_tokens(model, texts, count, positions):
            ours, exact = in_one_batch(engine, tokens), in_one_batch(exact_engine, tokens)
            error.add(ours, exact)
            scale.add(exact, np.broadcast_to(exact.mean(axis=-1, keepdims=True), exact.shape))
            other += int((ours.argmax(axis=-1) != exact.argmax(axis=-1)).sum())
            total += len(tokens)
    return (
        f"| {model.stem} | {error.rms / scale.rms:.1e} | {error.largest / scale.rms:.1e} "
        f"| {other} of {total}, {error.flips} of them where clear |"
    )


HEAD = (
    "| model | evaluated | rms error, flash off | rms error, flash on | llama.cpp's own rms | ratio "
    "| largest error | llama.cpp's own | ratio | other argmax where clear "
    "| where flash off, flash on alone is clear; llama.cpp's own |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def compare(
    model: Path,
    texts: Path,
    make_engine: EngineFactory = native_engine,
    *,
    count: int = TEXTS,
    positions: int = POSITIONS,
) -> list[Parity]:
    """Compare an engine with llama.cpp on `count` texts of `positions` tokens, evaluated in each of the `WAYS`."""
    return compare_rows(model, model.stem, read_tokens(model, texts, count, positions), make_engine)


def compare_rows(
    model: Path, name: str, rows: Sequence[Tokens], make_engine: EngineFactory = native_engine
) -> list[Parity]:
    """The same on rows of tokens; `name` is what the model is called in the table."""
    results = [Parity(name, way) for way in WAYS]
    positions = max(len(tokens) for tokens in rows)
    with (
        reference(model, positions, flash_attn=False) as flash_off,
        reference(model, positions, flash_attn=True) as flash_on,
        make_engine(model, positions) as engine,
    ):
        for tokens in rows:
            off, on = flash_off(tokens), flash_on(tokens)
            for result, evaluate in zip(results, WAYS.values(), strict=True):
                result.add(evaluate(engine, tokens), off, on)
    return results
