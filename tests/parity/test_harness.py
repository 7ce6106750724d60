"""The parity harness itself: it passes llama.cpp, and finds what is wrong with an engine that is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, SHARED_MODELS
from tests.llama.oracle import Oracle
from tests.parity.harness import EngineFactory, Logits, Parity, Tokens, compare, read_tokens

FEW = {"count": 2, "positions": 64}


@pytest.fixture(scope="module")
def files() -> tuple[Path, Path]:
    """A model and texts for it."""
    for model in (ROOT / "models" / "halo-demo-q8_0.gguf", SHARED_MODELS / "stories260K-q8_0.gguf"):
        if model.is_file():
            return model, model.parent / "eval.txt"
    pytest.skip("needs models/halo-demo-q8_0.gguf")


def compared(files: tuple[Path, Path], engine: EngineFactory) -> list[Parity]:
    return compare(*files, engine, **FEW)


def test_llama_cpp_agrees_with_itself(files: tuple[Path, Path]) -> None:
    batch, single = compared(files, Oracle)
    assert batch.off.largest == 0.0
    assert batch.flips == single.flips == 0
    assert single.ratio() < 1.5


def test_flash_attention_is_what_errors_are_measured_in(files: tuple[Path, Path]) -> None:
    batch, _ = compared(files, partial(Oracle, flash_attn=True))
    assert batch.on.largest == 0.0
    assert batch.ratio() == pytest.approx(1.0)
    assert batch.largest_ratio() == pytest.approx(1.0)


class Wrong(Oracle):
    """Logits that are off by noise of some size, or those of tokens that are shifted."""

    noise = 0.0
    shift = 0

    def forward(self, slot: int, tokens: Tokens, all_logits: bool = False) -> Logits:
        logits = super().forward(slot, (tokens + self.shift) % self.n_vocab, all_logits)
        noise = np.random.default_rng(int(tokens[0])).standard_normal(logits.shape, np.float32)
        return logits + self.noise * noise


def test_an_engine_that_is_too_inexact_is_found(files: tuple[Path, Path]) -> None:
    own = compared(files, Oracle)[0].own.rms

    @contextmanager
    def noisy(path: Path, n_ctx: int) -> Iterator[Wrong]:
        with Wrong(path, n_ctx) as engine:
            engine.noise = 2 * own
            yield engine

    assert all(result.ratio() > 1.5 for result in compared(files, noisy))


def test_an_engine_that_computes_something_else_is_found(files: tuple[Path, Path]) -> None:
    @contextmanager
    def shifted(path: Path, n_ctx: int) -> Iterator[Wrong]:
        with Wrong(path, n_ctx) as engine:
            engine.shift = 1
            yield engine

    for result in compared(files, shifted):
        assert result.flips > result.clear / 4
        assert result.ratio() > 10


def test_texts_are_cut_to_length_and_missing_ones_are_an_error(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, texts = files
    rows = read_tokens(model, texts, 3, 50)
    assert [len(row) for row in rows] == [50, 50, 50]
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time.\n<|endoftext|>\n")
    with pytest.raises(ValueError, match="has 0 texts of 50 tokens"):
        read_tokens(model, short, 3, 50)
