"""Relaxed syncs on the hub alone: what lateness that is injected adds up to, and where nothing may be late."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import Floats, LocalCell, alone
from tests.native.reference import Doubles, Outputs, Reference
from tests.tiny_gguf import Shape

LAYERS, GROUPS, D = 5, 4, 64  # layers 1 to 3 may be relaxed
TOKENS = np.random.default_rng(5).integers(3, 320, 12).astype(np.int32)
Tables = list[tuple[Floats, Floats, Floats, Floats]]


@pytest.fixture(scope="module", params=["plain", "biases"])
def model(tiny_model: TinyModel, request: pytest.FixtureRequest) -> Model:
    shape = Shape(n_layers=LAYERS, ff=64)
    if request.param == "biases":
        shape = replace(shape, biases=True, rope_scaling=2.0, rope_freqs=True)
    return open_model(tiny_model("F32", shape), mlp_groups=GROUPS)


@pytest.fixture
def tables() -> Tables:
    """Of random numbers; the last group of layer 2 is empty."""
    random = np.random.default_rng(3)

    def normal(*shape: int) -> Floats:
        return random.standard_normal(shape).astype(np.float32)

    made = [(normal(GROUPS, D), normal(GROUPS, D), normal(GROUPS), np.abs(normal(GROUPS))) for _ in range(LAYERS)]
    made[2][0][3] = 0
    made[2][3][3] = 0
    return made


def engine_of(model: Model, tables: Tables | None, share: float = 1.0, partials: str = "fixed") -> _native.Engine:
    engine = _native.Engine(model.native, 64, partials=partials)
    engine.set_tolerance(tables)
    engine.set_quality(share)
    return engine


def one_by_one(engine: _native.Engine, tokens: NDArray[np.int32] = TOKENS) -> Floats:
    return np.concatenate([engine.forward(0, [token]) for token in tokens])


def late_weight(tables: Tables, share: float) -> float:
    """Of a token whose tolerant groups are all late, were they drawn evenly: squared distances, by layer."""
    weights = 0.0
    for layer in (1, 2, 3):
        squares = np.sort(tables[layer][3].astype(np.float64) ** 2)
        quota = int(share * np.count_nonzero(squares) + 0.5)
        weights += quota * squares[squares > 0].mean() / squares.sum()
    return weights


def late(tables: Tables, groups: dict[int, list[int]], drop: str) -> Outputs:
    """These groups of each layer are late at every token."""

    def outputs(layer: int, values: Doubles) -> tuple[Doubles, Doubles]:
        these = groups.get(layer, [])
        means = tables[layer][0][these].sum(axis=0).astype(np.float64)
        missing = values[these].sum(axis=0)
        now = values.sum(axis=0) - missing
        return (now if drop == "zero" else now + means), (missing - means if drop == "correct" else 0 * means)

    return outputs


# ---- what lateness adds up to


@pytest.mark.parametrize("partials", ["fixed", "f32"])
def test_the_numpy_model_is_the_engines(model: Model, partials: str) -> None:
    logits = alone(model, TOKENS, partials)
    np.testing.assert_allclose(logits, Reference(model).forward(TOKENS), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("partials", ["fixed", "f32"])
@pytest.mark.parametrize("drop", ["correct", "mean", "zero"])
def test_late_groups_have_their_mean_now_and_the_rest_a_sync_later(
    model: Model, tables: Tables, drop: str, partials: str
) -> None:
    """Every group of every relaxed layer is late."""
    engine = engine_of(model, tables, partials=partials)
    engine.inject_lateness(1.0, drop=drop)
    groups = {1: [0, 1, 2, 3], 2: [0, 1, 2], 3: [0, 1, 2, 3]}
    expected = Reference(model).forward(TOKENS, late(tables, groups, drop))
    np.testing.assert_allclose(one_by_one(engine), expected, rtol=3e-3, atol=3e-3)
    assert np.abs(expected - Reference(model).forward(TOKENS)).max() > 0.1


def test_only_the_groups_with_the_lowest_scores_are_late(model: Model, tables: Tables) -> None:
    for mean, predictor, bias, _ in tables:
        predictor[...] = 0
        bias[...] = [4, 1, 3, 2]
        mean[...] *= 2
    engine = engine_of(model, tables, 0.5)
    engine.inject_lateness(1.0)
    groups = {1: [1, 3], 2: [1, 2], 3: [1, 3]}  # of layer 2 one is empty: half of three are two
    expected = Reference(model).forward(TOKENS, late(tables, groups, "correct"))
    np.testing.assert_allclose(one_by_one(engine), expected, rtol=3e-3, atol=3e-3)


def test_any_group_may_be_late_where_that_is_asked_for(model: Model, tables: Tables) -> None:
    engine = engine_of(model, tables, 0.25)
    engine.inject_lateness(1.0, any_group=True)
    groups = {1: [0, 1, 2, 3], 2: [0, 1, 2], 3: [0, 1, 2, 3]}
    expected = Reference(model).forward(TOKENS, late(tables, groups, "correct"))
    np.testing.assert_allclose(one_by_one(engine), expected, rtol=3e-3, atol=3e-3)


def test_a_sync_that_leaves_its_range_is_repeated_with_the_same_groups_late(tiny_model: TinyModel) -> None:
    """What came of the sync before counts once."""
    model = open_model(tiny_model("F32", Shape(n_layers=LAYERS, ff=64, down_scale=1e4)), mlp_groups=GROUPS)
    random = np.random.default_rng(3)
    tables = [
        (
            random.standard_normal((GROUPS, D)).astype(np.float32),
            random.standard_normal((GROUPS, D)).astype(np.float32),
            np.zeros(GROUPS, np.float32),
            np.ones(GROUPS, np.float32),
        )
        for _ in range(LAYERS)
    ]
    engines = [engine_of(model, tables, 0.5, partials) for partials in ("fixed", "f32")]
    for engine in engines:
        engine.inject_lateness(0.5, seed=4)
    fixed, floats = (one_by_one(engine) for engine in engines)
    assert engines[0].stats()["range_repeats"] > 0
    np.testing.assert_allclose(fixed, floats, rtol=2e-3, atol=2e-3)
    assert engines[0].stats()["tolerance"] == engines[1].stats()["tolerance"]


# ---- where nothing is late


@pytest.mark.parametrize("workers", [0, 2])
def test_nobody_late_is_exact_to_the_bit(model: Model, tables: Tables, workers: int) -> None:
    cell = LocalCell(model, workers)
    cell.engine.set_tolerance(tables)
    cell.engine.set_quality(1.0)
    assert np.array_equal(one_by_one(cell.engine), alone(model, TOKENS))
    stats = cell.engine.stats()["tolerance"]
    per_token = LAYERS * GROUPS - 1
    assert stats == {
        "forced_groups": 0,
        "late_weight": 0,
        "mlp_syncs": LAYERS * len(TOKENS),
        "mlp_groups": per_token * len(TOKENS),
        "tolerant_groups": (3 * GROUPS - 1) * len(TOKENS),
        "late_groups": 0,
        "corrected_groups": 0,
    }
    cell.engine.reset_stats()
    assert set(cell.engine.stats()["tolerance"].values()) == {0}


def test_injected_lateness_ends_with_a_probability_of_0(model: Model, tables: Tables) -> None:
    engine = engine_of(model, tables)
    engine.inject_lateness(1.0)
    engine.inject_lateness(0.0)
    assert np.array_equal(one_by_one(engine), alone(model, TOKENS))


def test_prompts_are_exact(model: Model, tables: Tables) -> None:
    """Whatever is left of one when it is cut into batches: 33 is 32 and 1."""
    engine = engine_of(model, tables)
    engine.inject_lateness(1.0)
    prompt = np.resize(TOKENS, 33)
    assert np.array_equal(engine.forward(0, prompt, True), alone(model, prompt))
    assert set(engine.stats()["tolerance"].values()) == {0}


def test_the_first_and_the_last_layer_are_exact(tiny_model: TinyModel, tables: Tables) -> None:
    model = open_model(tiny_model("F32", Shape(n_layers=2, ff=64)), mlp_groups=GROUPS)
    engine = engine_of(model, tables[:2])
    engine.inject_lateness(1.0, any_group=True)
    assert np.array_equal(one_by_one(engine), alone(model, TOKENS))
    assert engine.stats()["tolerance"]["tolerant_groups"] == 0


def test_tables_alone_leave_it_exact(model: Model, tables: Tables) -> None:
    engine = engine_of(model, tables)
    engine.set_tolerance(tables)  # new ones
    engine.inject_lateness(1.0, any_group=True)
    assert np.array_equal(one_by_one(engine), alone(model, TOKENS))


# ---- figures


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_figures_count_quotas_of_the_groups_that_are_not_empty(model: Model, tables: Tables, share: float) -> None:
    engine = engine_of(model, tables, share)
    engine.inject_lateness(1.0)
    one_by_one(engine)
    quotas = sum(int(share * counted + 0.5) for counted in (4, 3, 4)) * len(TOKENS)
    found = engine.stats()["tolerance"]
    assert found.pop("late_weight") == pytest.approx(late_weight(tables, share) * len(TOKENS), rel=0.5)
    assert found == {
        "forced_groups": 0,
        "mlp_syncs": LAYERS * len(TOKENS),
        "mlp_groups": (LAYERS * GROUPS - 1) * len(TOKENS),
        "tolerant_groups": quotas,
        "late_groups": quotas,
        "corrected_groups": quotas,
    }
    groups = sum(len(bounds) - 1 for bounds in model.grid.attention + model.grid.mlp)
    assert engine.stats()["devices"][0]["group_results"] == groups * len(TOKENS)


def test_what_is_dropped_is_late_and_never_corrected(model: Model, tables: Tables) -> None:
    for drop in ("mean", "zero"):
        engine = engine_of(model, tables)
        engine.inject_lateness(1.0, drop=drop)
        one_by_one(engine)
        stats = engine.stats()["tolerance"]
        assert stats["late_groups"] == stats["tolerant_groups"] > 0 == stats["corrected_groups"]


def test_a_token_that_is_cancelled_anywhere_leaves_nothing_behind(model: Model, tables: Tables) -> None:
    def prepared() -> _native.Engine:
        engine = engine_of(model, tables)
        engine.inject_lateness(1.0)
        engine.forward(0, TOKENS[:4])
        return engine

    expected = one_by_one(prepared(), TOKENS[4:6])
    engine = prepared()
    stopped = 0
    for delay in np.linspace(0.001, 0.05, 25):
        engine.pace(5000, 0)
        timer = threading.Timer(float(delay), engine.cancel)
        timer.start()
        try:
            engine.forward(0, TOKENS[4:5])
        except _native.Interrupted:
            stopped += 1
        timer.join()
        engine.pace(0, 0)
        engine.truncate(0, 4)
        assert np.array_equal(one_by_one(engine, TOKENS[4:6]), expected)
        engine.truncate(0, 4)
    assert stopped > 5


# ---- who is late


def test_groups_are_late_as_often_as_was_asked_for(model: Model, tables: Tables) -> None:
    lateness = _native.Lateness(0.2, 7)
    drawn = [lateness.draw(0b1011) for _ in range(4000)]
    assert all(mask & ~0b1011 == 0 for mask in drawn)
    assert abs(sum(mask.bit_count() for mask in drawn) / 12000 - 0.2) < 0.02


@pytest.mark.parametrize(("probability", "mean"), [(0.2, 10.0), (0.05, 3.0), (0.9, 1.0), (1.0, 5.0)])
def test_fades_take_that_share_of_the_time_and_last_that_long(probability: float, mean: float) -> None:
    """One device; where the mean leaves pauses of less than a sync, fades are longer."""
    lateness = _native.Lateness(probability, 3, mean, 1)
    fading = []
    for _ in range(60_000):
        lateness.tick()
        fading.append(lateness.draw(0b11) == 0b11)
    assert abs(np.mean(fading) - probability) < 0.03
    fades = sum(now and not before for before, now in zip([False, *fading], fading, strict=False))
    longer = max(mean, probability / (1 - probability)) if probability < 1 else 60_000
    assert abs(sum(fading) / fades / longer - 1) < 0.1


def test_a_device_that_fades_is_late_with_all_of_its_groups() -> None:
    lateness = _native.Lateness(0.5, 3, 4.0, 2)
    seen = set()
    for _ in range(500):
        lateness.tick()
        seen.add(lateness.draw(0b1110111))
    assert seen == {0, 0b0000111, 0b1110000, 0b1110111}


def test_the_same_seed_is_late_at_the_same_places(model: Model, tables: Tables) -> None:
    runs = []
    for seed in (1, 1, 2):
        engine = engine_of(model, tables)
        engine.inject_lateness(0.3, seed, fade_syncs=3.0)
        runs.append(one_by_one(engine))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


# ---- the predictor


def test_scores_are_those_of_numpy(tables: Tables) -> None:
    significance = _native.LinearSignificance(tables)
    for layer, (_, predictor, bias, _) in enumerate(tables):
        normed = np.random.default_rng(layer).standard_normal(D).astype(np.float32)
        expected = predictor.astype(np.float64) @ normed + bias
        np.testing.assert_allclose(significance.predict(layer, normed), expected, rtol=1e-5, atol=1e-5)


# ---- bad input


def test_tables_that_do_not_fit_are_refused_and_change_nothing(model: Model, tables: Tables) -> None:
    engine = engine_of(model, tables, 0.5)
    engine.inject_lateness(1.0)
    mean, predictor, bias, significance = tables[1]
    hostile = [
        (mean[:3], predictor, bias, significance),
        (mean[:, :63], predictor[:, :63], bias, significance),
        (mean[:3], predictor[:3], bias[:3], significance[:3]),
        (mean[0], predictor, bias, significance),
        (mean, predictor.astype(np.float64), bias, significance),
        (mean, predictor, bias[:, None], significance),
        (mean * np.float32("nan"), predictor, bias, significance),
        (mean, predictor, bias + np.float32("inf"), significance),
        (mean, predictor, bias, -significance),
        (mean[:0], predictor[:0], bias[:0], significance[:0]),
    ]
    for layer in hostile:
        with pytest.raises(ValueError):
            engine.set_tolerance([tables[0], layer, *tables[2:]])  # type: ignore[list-item]
    for count in (0, 4, 6):
        with pytest.raises(ValueError):
            engine.set_tolerance((2 * tables)[:count])
    expected = engine_of(model, tables, 0.5)
    expected.inject_lateness(1.0)
    assert np.array_equal(one_by_one(engine), one_by_one(expected))


def test_scores_that_overflow_choose_all_the_same(model: Model, tables: Tables) -> None:
    tables[1][1][...] = np.finfo(np.float32).max
    engine = engine_of(model, tables, 0.5)
    engine.inject_lateness(1.0)
    assert np.isfinite(one_by_one(engine)).all()
    assert engine.stats()["tolerance"]["late_groups"] == 6 * len(TOKENS)


def test_impossible_qualities_are_refused(model: Model, tables: Tables) -> None:
    engine = engine_of(model, tables)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="0 to 1"):
            engine.set_quality(share)
    engine.set_tolerance(None)
    engine.set_quality(0.0)
    with pytest.raises(ValueError, match="sidecar"):
        engine.set_quality(0.25)
    for probability, fade_syncs, devices, drop in [
        (1.5, 0.0, 4, "correct"),
        (float("nan"), 0.0, 4, "correct"),
        (0.5, -1.0, 4, "correct"),
        (0.5, float("inf"), 4, "correct"),
        (0.5, 1.0, 0, "correct"),
        (0.5, 1.0, 65, "correct"),
        (0.5, 1.0, 4, "maybe"),
    ]:
        with pytest.raises(ValueError):
            engine.inject_lateness(probability, 0, fade_syncs, devices, drop)
