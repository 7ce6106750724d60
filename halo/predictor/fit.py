"""Ridge regression of a layer's predictor, in closed form from sums over tokens."""

from __future__ import annotations

import numpy as np

from halo.predictor.sidecar import LayerTable
from halo.predictor.sums import Doubles, FitSums, Means

RIDGES = (1.0, 1e-1, 1e-2, 1e-3)
"""Penalties that are tried, until one makes it worse; in units of an input's variance over all tokens."""

_PROBES = 64
_ROUNDING = 1e-4  # of a sum of squares in f32, with room: inputs are less their mean, so what varies is far above


def fit_layer(bounds: list[int], means: Means, sums: FitSums, tokens: int) -> tuple[LayerTable, float]:
    """A layer's tables, and the share of the targets' variance that the predictor explains in the calibration text.

    Inputs are scaled to the same variance, so that a few large ones do not escape the penalty. The penalty is the one
    with the least generalised cross-validation error (Golub, Heath and Wahba 1979) over all groups together.
    """
    mean_x, mean_y = sums.inputs / tokens, sums.targets / tokens
    gram = sums.gram.astype(np.float64)
    least = _ROUNDING * gram.diagonal()
    gram -= tokens * np.outer(mean_x, mean_x)
    variance = gram.diagonal()
    scale = np.sqrt(np.where(variance > least, variance, np.inf))  # inf: the input never varies
    gram /= np.outer(scale, scale)
    np.fill_diagonal(gram, np.isfinite(scale))
    products = ((sums.products - tokens * np.outer(mean_y, mean_x)) / scale)[means.counted]
    total = float((sums.squares - tokens * mean_y**2)[means.counted].sum())
    solution, error = _solve(gram, products, total, tokens)

    weights = np.zeros_like(sums.products)
    weights[means.counted] = solution / scale
    bias = mean_y - weights @ (mean_x + means.inputs)
    bias[~means.counted] = float(np.log(means.floor[0]))
    significance = np.where(means.counted, sums.distances / tokens, 0.0)
    table = LayerTable(
        bounds=bounds,
        mean=means.outputs,
        predictor=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        significance=significance.astype(np.float32),
    )
    return table, 1 - error / total if total > 0 else 0.0


def _solve(gram: Doubles, products: Doubles, total: float, tokens: int) -> tuple[Doubles, float]:
    """Weights (groups, d) for the best penalty, and the sum of the squared errors that remain.

    The trace of the inverse is estimated from random signs (Hutchinson 1990): the inverse itself would take four times
    as long as the weights.
    """
    groups = len(products)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (len(gram), _PROBES))
    best, least, error = np.zeros_like(products), np.inf, total
    for ridge in RIDGES:
        solved = np.linalg.solve(gram + ridge * np.eye(len(gram)), np.hstack([products.T, signs]))
        weights = solved[:, :groups].T
        remains = total - 2 * float((weights * products).sum()) + float(((weights @ gram) * weights).sum())
        trace = float((signs * solved[:, groups:]).sum()) / _PROBES
        free = tokens - 1 - (len(gram) - ridge * trace)  # degrees of freedom that are left
        score = remains / free**2 if free > 0 else np.inf
        if score >= least:
            break
        best, least, error = weights, score, remains
    return best, error
