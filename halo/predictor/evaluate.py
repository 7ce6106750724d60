"""How well the predictor ranks a layer's groups on a text, next to the static table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.model import Model
from halo.predictor.sidecar import LayerTable, Sidecar
from halo.predictor.sums import Distances
from halo.predictor.text import Tokens, counted_tokens

_BOTTOM = 0.25

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LayerScore:
    """One layer: means over tokens. NaN where fewer than two groups are not empty."""

    groups: int  # that are not empty
    predictor: float  # Spearman's rank correlation with the true distances
    static: float  # the same of the table of significances
    predictor_recall: float  # of the true bottom 25%, the share that the predictor has there, too
    static_recall: float


@dataclass(frozen=True)
class Evaluation:
    """By layer, and the mean of the layers."""

    tokens: int
    layers: list[LayerScore]

    def mean(self, figure: str) -> float:
        """The mean of one of LayerScore's figures over the layers that have it."""
        values = [value for layer in self.layers if not isnan(value := getattr(layer, figure))]
        return sum(values) / len(values) if values else nan


def evaluate(
    model: Model,
    sidecar: Sidecar,
    pieces: list[Tokens],
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Compare predicted with true distances of the outputs from their means, token by token."""
    engine = _native.Engine(model.native, max(len(piece) for piece in pieces), 1, threads, "f32")
    seen = Distances(model, [layer.mean for layer in sidecar.layers], engine.n_ctx)
    engine.observe(seen.observer)
    true: list[list[Floats]] = [[] for _ in sidecar.layers]
    predicted: list[list[Floats]] = [[] for _ in sidecar.layers]
    for done, piece in enumerate(pieces, 1):
        engine.truncate(0, 0)
        engine.forward(0, piece)
        for i, (layer, (inputs, distances)) in enumerate(zip(sidecar.layers, seen.take(), strict=True)):
            true[i].append(distances.copy())
            predicted[i].append(inputs @ layer.predictor.T + layer.bias)
        progress(done, len(pieces))
    scores = [
        score(layer, np.concatenate(t), np.concatenate(p))
        for layer, t, p in zip(sidecar.layers, true, predicted, strict=True)
    ]
    return Evaluation(counted_tokens(pieces), scores)


def score(layer: LayerTable, true: Floats, predicted: Floats) -> LayerScore:
    """One layer's figures; true, predicted: (tokens, groups), of which only the order counts. Empty groups do not."""
    counted = layer.counted
    groups = int(counted.sum())
    if groups < 2:
        return LayerScore(groups, nan, nan, nan, nan)
    static = np.broadcast_to(layer.significance[counted], (len(true), groups))
    ranks, by_predictor, by_table = (_ranks(values) for values in (true[:, counted], predicted[:, counted], static))
    bottom = max(1, int(_BOTTOM * groups + 0.5))
    return LayerScore(
        groups,
        _correlation(ranks, by_predictor),
        _correlation(ranks, by_table),
        _recall(ranks, by_predictor, bottom),
        _recall(ranks, by_table, bottom),
    )


def _ranks(values: Floats) -> NDArray[np.int64]:
    """0 for the smallest of each row."""
    return np.argsort(np.argsort(values, axis=1, kind="stable"), axis=1)


def _correlation(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """The mean over rows of Spearman's rho; a, b: ranks without ties."""
    n = a.shape[1]
    return float(1 - 6 * ((a - b) ** 2).sum(axis=1).mean() / (n * (n * n - 1)))


def _recall(true: NDArray[np.int64], other: NDArray[np.int64], bottom: int) -> float:
    return float(((true < bottom) & (other < bottom)).sum(axis=1).mean() / bottom)
