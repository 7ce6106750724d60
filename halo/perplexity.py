"""Perplexity of a model on a text, token by token through the engine, exact and with a part of the MLP late.

Each document of the text is a sequence of its own: it begins as generated text does (begin of sequence), is cut where
the context ends, and every further token counts. One token is computed at a time where anything may be late, since
nothing ever is in a prompt.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from halo.errors import ModelError, TextError
from halo.predictor.text import Text, Tokenize, Tokens

DROPS = ("correct", "mean", "zero")
"""What becomes of what is late: its mean now and the rest a sync later, its mean only, nothing."""
SYNC_MS = 2.5
_LEAST = 64  # predictions
_LARGEST_LOSS = 700.0  # whose exponential is a number
_ROWS = 64  # that are read at once where nothing is late: the logits of a whole context may take gigabytes

Progress = Callable[[int, int], None]


class Forward(Protocol):
    """An engine, as far as it is used here."""

    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = False) -> NDArray[np.float32]: ...
    def truncate(self, slot: int, n: int) -> None: ...


@dataclass(frozen=True)
class Lateness:
    """Injected: each tolerant group is late with `probability`, or the groups of each of `devices` devices while it
    fades, for `fade_ms` in the mean and that part of the time, a sync taking `sync_ms`."""

    probability: float
    fade_ms: float = 0.0
    sync_ms: float = SYNC_MS
    devices: int = 4
    drop: str = DROPS[0]
    any_group: bool = False

    def inject(self, engine: Any, seed: int) -> None:
        """Into a native engine, from its next token on."""
        engine.inject_lateness(
            self.probability,
            seed=seed,
            fade_syncs=self.fade_ms / self.sync_ms,
            devices=self.devices,
            drop=self.drop,
            any_group=self.any_group,
        )


@dataclass(frozen=True)
class Pass:
    """One way through all documents."""

    loss: float  # mean over predictions of -log p(next token)
    best: NDArray[np.int32]  # (predictions) the most probable token
    accuracy: float  # how often that was the next one

    @property
    def perplexity(self) -> float:
        return exp(self.loss)


@dataclass(frozen=True)
class Comparison:
    """A pass with lateness, against the exact one."""

    perplexity: float
    change: float  # of the perplexity, as a share
    agreement: float  # how often the most probable token is the same
    accuracy: float
    late_share: float  # of the MLP's group results
    tolerant_share: float

    @classmethod
    def of(cls, exact: Pass, other: Pass, counted: dict[str, int]) -> Comparison:
        """`counted`: the engine's `stats()["tolerance"]` of that pass."""
        groups = max(1, counted["mlp_groups"])
        return cls(
            perplexity=other.perplexity,
            change=other.perplexity / exact.perplexity - 1,
            agreement=float((exact.best == other.best).mean()),
            accuracy=other.accuracy,
            late_share=counted["late_groups"] / groups,
            tolerant_share=counted["tolerant_groups"] / groups,
        )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (0 for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def sequences_of(text: Text, tokenize: Tokenize, n_ctx: int, most: int) -> list[Tokens]:
    """A sequence for each document, as long as the context allows; `most` predictions in all. TextError for a text
    that is too short."""
    sequences: list[Tokens] = []
    left = most
    for document in text.documents:
        tokens = np.array(tokenize(document, True)[: min(n_ctx, left + 1)], np.int32)
        if len(tokens) < 2:
            continue
        sequences.append(tokens)
        left -= len(tokens) - 1
        if left < 1:
            break
    if most - left < _LEAST:
        raise TextError(
            f"The text ({text.name}) has {most - left} tokens to predict, too few to say anything: give some pages."
        )
    return sequences


def predictions_of(sequences: Sequence[Tokens]) -> int:
    return sum(len(sequence) - 1 for sequence in sequences)


def run(engine: Forward, sequences: Sequence[Tokens], *, single: bool, progress: Progress = lambda n, of: None) -> Pass:
    """Through all sequences; `single`: one token at a time. ModelError for a model whose perplexity is no number."""
    total, done, loss = predictions_of(sequences), 0, 0.0
    best: list[NDArray[np.int32]] = []
    hits = 0
    for sequence in sequences:
        engine.truncate(0, 0)
        inputs, targets = sequence[:-1], sequence[1:]
        step = 1 if single else _ROWS
        for at in range(0, len(inputs), step):
            logits = engine.forward(0, inputs[at : at + step], True)
            loss -= float(_log_probabilities(logits, targets[at : at + step]).sum())
            best.append(logits.argmax(axis=1).astype(np.int32))
            hits += int((best[-1] == targets[at : at + step]).sum())
            done += len(best[-1])
            progress(done, total)
    if loss / total > _LARGEST_LOSS:
        raise ModelError(
            f"The model's perplexity is beyond every number: it gives the text's tokens a probability of "
            f"e^-{loss / total:.3g} in the mean. Its file may be damaged: download or copy it again."
        )
    return Pass(loss / total, np.concatenate(best), hits / total)


def _log_probabilities(logits: NDArray[np.float32], targets: Tokens) -> NDArray[np.float64]:
    """(rows) of the targets; logits: (rows, vocabulary)."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    chosen: NDArray[np.float64] = wide[np.arange(len(targets)), targets] - np.log(np.exp(wide).sum(axis=1))
    return chosen
