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
    gram: Floats  # (d, d) of x x^T: with f64 a model of d = 4096 would need 4 GB

    @classmethod
    def zeros(cls, groups: int, d: int) -> FitSums:
        rows = (np.zeros(groups), np.zeros(groups), np.zeros(groups), np.zeros(d), np.zeros((groups, d)))
        return cls(*rows, np.zeros((d, d), np.float32))

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        return [self.distances, self.targets, self.squares, self.inputs, self.products, self.gram]

    def add(self, means: Means, inputs: Floats, distances: Floats) -> None:
        """Add some tokens: inputs (tokens, d), distances (tokens, groups). Products are summed in f32 over these few
        tokens, and of inputs less their mean, so that little is lost where the fit subtracts sums."""
        x = inputs - means.inputs
        y = np.log(distances.astype(np.float64) + means.floor)
        self.distances[...] += distances.sum(axis=0, dtype=np.float64)
        self.targets[...] += y.sum(axis=0)
        self.squares[...] += (y * y).sum(axis=0)
        self.inputs[...] += x.sum(axis=0, dtype=np.float64)
        self.products[...] += y.astype(np.float32).T @ x
        self.gram[...] += x.T @ x


class Distances:
    """The layer inputs and distances of a piece of text, as the native pass writes them."""

    def __init__(self, model: Model, means: list[Floats], tokens: int) -> None:
        shapes = [(len(mean), model.spec.d) for mean in means]
        self._layers = [
            (np.zeros((tokens, d), np.float32), np.zeros((tokens, groups), np.float32)) for groups, d in shapes
        ]
        arrays = [[mean, *layer] for mean, layer in zip(means, self._layers, strict=True)]
        self.observer = _native.DistancePass(model.native, arrays, tokens)

    def take(self) -> list[tuple[Floats, Floats]]:
        """Per layer, inputs (n, d) and distances (n, groups) of the n tokens since the last time; valid until the next
        `forward`."""
        tokens = self.observer.rewind()
        return [(inputs[:tokens], distances[:tokens]) for inputs, distances in self._layers]


def mean_pass(model: Model, sums: list[MeanSums]) -> _native.MeanPass:
    """Who adds to these sums."""
    return _native.MeanPass(model.native, [layer.arrays for layer in sums])
