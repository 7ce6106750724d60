"""The fit, on groups whose true predictor is known."""

from __future__ import annotations

import numpy as np
import pytest

from halo.predictor.evaluate import score
from halo.predictor.fit import fit_layer
from halo.predictor.sidecar import LayerTable
from halo.predictor.sums import FitSums, Means, MeanSums

D, GROUPS = 48, 6
BOUNDS = [0, 8, 16, 24, 32, 40, 48]


def synthetic(tokens: int, noise: float, seed: int = 0) -> tuple[Means, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs with very different variances and a large mean; log distances linear in them. Group 2 is empty."""
    truth = np.random.default_rng(1)
    spread, centre = np.exp(truth.normal(0, 1.5, D)), truth.normal(0, 30, D)
    weights, bias = truth.normal(0, 0.3, (GROUPS, D)) / spread, truth.normal(0, 1, GROUPS)
    random = np.random.default_rng(seed)
    x = (centre + spread * random.standard_normal((tokens, D))).astype(np.float32)
    y = (x - centre) @ weights.T + bias + noise * random.standard_normal((tokens, GROUPS))
    distances = np.exp(y).astype(np.float32)
    distances[:, 2] = 0
    counted = np.arange(GROUPS) != 2
    means = Means(
        np.zeros((GROUPS, D), np.float32), centre.astype(np.float32) + 0.01, np.array([1e-6], np.float32), counted
    )
    return means, x, distances, weights, bias - weights @ centre


def fit(means: Means, x: np.ndarray, distances: np.ndarray, step: int = 500) -> tuple[LayerTable, float]:
    sums = FitSums.zeros(GROUPS, D)
    for at in range(0, len(x), step):
        sums.add(means, x[at : at + step], distances[at : at + step])
    return fit_layer(BOUNDS, means, sums, len(x))


def test_the_true_predictor_is_found() -> None:
    means, x, distances, weights, bias = synthetic(8000, noise=0.05)
    table, explained = fit(means, x, distances)
    spread = x.std(axis=0)
    counted = means.counted
    np.testing.assert_allclose((table.predictor * spread)[counted], (weights * spread)[counted], atol=0.01)
    predicted = x @ table.predictor.T + table.bias
    np.testing.assert_allclose(predicted[:, counted], (x @ weights.T + bias)[:, counted], atol=0.1)
    assert explained > 0.99


def test_an_empty_group_is_left_out_and_predicted_last() -> None:
    means, x, distances, _, _ = synthetic(2000, noise=0.1)
    table, _ = fit(means, x, distances)
    assert list(table.counted) == [True, True, False, True, True, True]
    assert not table.predictor[2].any()
    assert (x @ table.predictor.T + table.bias).argmin(axis=1).tolist() == [2] * len(x)


def test_with_fewer_tokens_than_inputs_nothing_blows_up() -> None:
    means, x, distances, _, _ = synthetic(40, noise=0.5)
    table, _ = fit(means, x, distances)
    assert np.isfinite(table.predictor).all()
    _, new, true, _, _ = synthetic(2000, noise=0.5, seed=9)
    assert score(table, true, new @ table.predictor.T + table.bias).predictor > 0.2


def test_pure_noise_is_not_learned() -> None:
    means, x, distances, _, _ = synthetic(300, noise=0.0)
    distances = np.exp(np.random.default_rng(5).standard_normal(distances.shape)).astype(np.float32)
    table, _ = fit(means, x, distances)
    _, new, _, _, _ = synthetic(1000, noise=0.0, seed=9)
    assert (new @ table.predictor.T + table.bias)[:, means.counted].std(axis=0).max() < 0.35


def test_inputs_and_targets_that_never_vary_are_no_harm() -> None:
    means, x, distances, _, _ = synthetic(500, noise=0.1)
    x[:, 3], means.inputs[3] = 7.0, 7.01
    distances[:, 4] = 2.0
    table, _ = fit(means, x, distances)
    assert np.isfinite(table.predictor).all()
    assert not table.predictor[:, 3].any()
    np.testing.assert_allclose(x @ table.predictor[4] + table.bias[4], np.log(2.0), atol=1e-4)


def test_a_layer_of_empty_groups_has_a_table() -> None:
    means = Means.of(MeanSums.zeros(GROUPS, D), 100)
    assert not means.counted.any()
    x = np.random.default_rng(0).standard_normal((100, D)).astype(np.float32)
    table, explained = fit(means, x, np.zeros((100, GROUPS), np.float32))
    assert not table.significance.any() and np.isfinite(table.bias).all()
    assert explained == 0.0


def test_means_tell_empty_groups_from_small_ones() -> None:
    outputs = np.random.default_rng(0).standard_normal((200, 3, D)) * np.array([1.0, 1e-3, 0.0])[:, None] + 0.5
    outputs[:, 2] = 0
    sums = MeanSums(outputs.sum(axis=0), (outputs**2).sum(axis=(0, 2)), np.zeros(D))
    means = Means.of(sums, 200)
    assert list(means.counted) == [True, True, False]
    spread = np.linalg.norm(outputs[:, :2] - outputs[:, :2].mean(axis=0), axis=2)
    assert means.floor[0] == pytest.approx(1e-4 * np.median(np.sqrt((spread**2).mean(axis=0))), rel=1e-3)


def table(significance: list[float]) -> LayerTable:
    n = len(significance)
    return LayerTable(
        list(range(n + 1)), np.zeros((n, 1)), np.zeros((n, 1)), np.zeros(n), np.array(significance, np.float32)
    )


def test_rank_correlation_is_spearmans() -> None:
    true = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    figures = score(table([10, 20, 30, 40]), true, true**3)
    assert figures.predictor == pytest.approx(1.0)
    assert figures.static == pytest.approx(0.0)  # the very order once, the reverse once
    assert (figures.predictor_recall, figures.static_recall) == (1.0, 0.5)
    swapped = np.array([[2.0, 1.0, 3.0, 4.0]])  # rho = 1 - 6 * 2 / (4 * 15)
    assert score(table([10, 20, 30, 40]), swapped, swapped).static == pytest.approx(0.8)


def test_empty_groups_do_not_count_in_the_correlation() -> None:
    true = np.array([[0.0, 1.0, 2.0, 3.0]])
    figures = score(table([0, 10, 20, 30]), true, np.array([[9.0, 1.0, 2.0, 3.0]]))
    assert (figures.groups, figures.predictor, figures.static) == (3, 1.0, 1.0)
    assert np.isnan(score(table([0, 0, 0, 30]), true, true).predictor)
