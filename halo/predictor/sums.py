"""The two passes' sums over tokens: arrays that the native passes add to and that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.model import Model

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FLOOR = 1e-4
"""Added to a distance before its logarithm, times the layer's median: no group's target goes to minus infinity."""
_EMPTY = 1e-12  # of the layer's largest mean square: an empty group gives less
_TINY = 1e-30


@dataclass(frozen=True)
class MeanSums:
    """One layer's sums of the first pass."""

    outputs: Doubles  # (groups, d)
    squares: Doubles  # (groups) of the outputs' norms
    inputs: Doubles  # (d)

    @classmethod
    def zeros(cls, groups: int, d: int) -> MeanSums:
        return cls(np.zeros((groups, d)), np.zeros(groups), np.zeros(d))

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        return [self.outputs, self.squares, self.inputs]


@dataclass(frozen=True)
class Means:
    """What the first pass has learned of a layer."""

    outputs: Floats  # (groups, d)
    inputs: Floats  # (d)
    floor: Floats  # (1)
    counted: NDArray[np.bool_]  # (groups): not empty

    @classmethod
    def of(cls, sums: MeanSums, tokens: int) -> Means:
        mean, square = sums.outputs / tokens, sums.squares / tokens
        counted = square > _EMPTY * square.max()
        spread = np.sqrt(np.maximum(square - (mean**2).sum(axis=1), 0.0))[counted]
        floor = FLOOR * float(np.median(spread)) if counted.any() else 0.0
        return cls(
            mean.astype(np.float32),
            (sums.inputs / tokens).astype(np.float32),
            np.array([max(floor, _TINY)], np.float32),
            counted,
        )


@dataclass(frozen=True)
class FitSums:
    """One layer's sums of the second pass: x is the layer input less its mean, y a group's target."""

    distances: Doubles  # (groups) of the outputs from their means
    targets: Doubles  # (groups) of y
    squares: Doubles  # (groups) of y^2
    inputs: Doubles  # (d) of x
    products: Doubles  # (groups, d) of y x
    gram: Floats  # (d (d + 1) / 2) of x x^T, upper triangle by rows

    @classmethod
    def zeros(cls, groups: int, d: int) -> FitSums:
        rows = (np.zeros(groups), np.zeros(groups), np.zeros(groups), np.zeros(d), np.zeros((groups, d)))
        return cls(*rows, np.zeros(d * (d + 1) // 2, np.float32))

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        return [self.distances, self.targets, self.squares, self.inputs, self.products, self.gram]


def mean_pass(model: Model, sums: list[MeanSums]) -> _native.MeanPass:
    """Who adds to these sums."""
    return _native.MeanPass(model.native, [layer.arrays for layer in sums])


def fit_pass(model: Model, means: list[Means], sums: list[FitSums]) -> _native.FitPass:
    """Who adds to these sums, around these means."""
    layers = zip(means, sums, strict=True)
    return _native.FitPass(model.native, [[m.outputs, m.inputs, m.floor, *s.arrays] for m, s in layers])
