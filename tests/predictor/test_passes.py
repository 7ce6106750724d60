"""What the native passes see of the MLP groups, against the mathematics in numpy."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from halo.predictor.sums import Distances, MeanSums, mean_pass
from tests.conftest import TinyModel
from tests.native.reference import Reference
from tests.predictor.conftest import SHAPE


@pytest.fixture(params=[False, True], ids=["plain", "biases"])
def model(tiny_model: TinyModel, request: pytest.FixtureRequest) -> Model:
    """The biases of gate and up are of the groups, that of down of none."""
    return open_model(tiny_model("F32", replace(SHAPE, biases=request.param)), mlp_groups=4)


def group_outputs(model: Model, layer: int, h: np.ndarray) -> np.ndarray:
    """(tokens, groups, d) of layer inputs (tokens, d)."""
    reference = Reference(model)
    gate, up, down = (reference.weights(f"blk.{layer}.ffn_{name}") for name in ("gate", "up", "down"))
    a = h @ gate.T + reference.bias(f"blk.{layer}.ffn_gate")
    neurons = a / (1 + np.exp(-a)) * (h @ up.T + reference.bias(f"blk.{layer}.ffn_up"))
    bounds = model.grid.mlp[layer]
    spans = [slice(begin, end) for begin, end in itertools.pairwise(bounds)]
    return np.stack([neurons[:, s] @ down[:, s].T for s in spans], axis=1)


def run(model: Model, pieces: list[np.ndarray], observer: _native.Observer, threads: int = 2) -> None:
    engine = _native.Engine(model.native, 256, 1, threads, "f32")
    engine.observe(observer)
    for piece in pieces:
        engine.truncate(0, 0)
        engine.forward(0, piece)


def test_distances_are_of_each_groups_output_and_position_0_is_left_out(model: Model, pieces: list[np.ndarray]) -> None:
    means = [np.random.default_rng(i).standard_normal((4, 64)).astype(np.float32) for i in range(2)]
    seen = Distances(model, means, 256)
    run(model, pieces[:1], seen.observer)
    for layer, (inputs, distances) in enumerate(seen.take()):
        assert len(inputs) == len(pieces[0]) - 1
        true = np.linalg.norm(group_outputs(model, layer, inputs.astype(np.float64)) - means[layer], axis=2)
        np.testing.assert_allclose(distances, true, rtol=1e-4)


def test_means_are_those_of_the_outputs_and_inputs(model: Model, pieces: list[np.ndarray]) -> None:
    sums = [MeanSums.zeros(4, 64) for _ in range(2)]
    run(model, pieces, mean_pass(model, sums))
    seen = Distances(model, [np.zeros((4, 64), np.float32)] * 2, 1000)
    run(model, pieces, seen.observer)
    for layer, (inputs, _) in enumerate(seen.take()):
        assert len(inputs) == sum(len(piece) - 1 for piece in pieces)
        outputs = group_outputs(model, layer, inputs.astype(np.float64))
        np.testing.assert_allclose(sums[layer].outputs, outputs.sum(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(sums[layer].squares, (outputs**2).sum(axis=(0, 2)), rtol=1e-4)
        np.testing.assert_allclose(sums[layer].inputs, inputs.sum(axis=0), rtol=1e-3, atol=1e-3)


def test_tokens_for_which_there_is_no_room_are_left_out(model: Model, pieces: list[np.ndarray]) -> None:
    seen = Distances(model, [np.zeros((4, 64), np.float32)] * 2, 50)
    run(model, pieces[:2], seen.observer)
    assert all(len(inputs) == 50 for inputs, _ in seen.take())
    assert all(len(inputs) == 0 for inputs, _ in seen.take())


def test_who_watches_changes_no_logits(model: Model, pieces: list[np.ndarray]) -> None:
    plain, watched = (_native.Engine(model.native, 256, 1, 2, "fixed") for _ in range(2))
    watched.observe(mean_pass(model, [MeanSums.zeros(4, 64) for _ in range(2)]))
    np.testing.assert_array_equal(
        plain.forward(0, pieces[0], all_logits=True), watched.forward(0, pieces[0], all_logits=True)
    )


def test_arrays_of_a_wrong_shape_or_type_are_refused(model: Model) -> None:
    good = [MeanSums.zeros(4, 64).arrays for _ in range(2)]
    _native.MeanPass(model.native, good)
    for bad in (
        good[:1],
        [good[0], good[1][:2]],
        [good[0], [np.zeros((4, 63)), *good[1][1:]]],
        [good[0], [np.zeros((4, 64), np.float32), *good[1][1:]]],
        [good[0], [np.zeros((64, 4)).T, *good[1][1:]]],
    ):
        with pytest.raises(ValueError):
            _native.MeanPass(model.native, bad)
