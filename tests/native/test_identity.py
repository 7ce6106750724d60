"""`fixed` partials: the logits are the same bits, whoever computes what and however a prompt is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone, lossy, run
from tests.tiny_gguf import K_SHAPE, Shape

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_0+F16", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M"]
BIASES = "Q8_0, biases"
TOKENS = np.random.default_rng(1).integers(3, 320, 70).astype(np.int32)


@pytest.fixture(scope="module")
def models(tiny_model: TinyModel) -> dict[str, Model]:
    shapes = {kind: K_SHAPE if "_K" in kind else None for kind in TYPES} | {BIASES: Shape(biases=True)}
    return {kind: open_model(tiny_model(kind.partition(", ")[0], shape)) for kind, shape in shapes.items()}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([*TYPES, BIASES]),
    workers=st.sampled_from([0, 1, 2, 3, 5]),
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.integers(1, 69), max_size=5),
    threads=st.integers(1, 3),
    max_message=st.sampled_from([1024, 4096, 65536]),
)
def test_same_bits_with_any_workers_masks_cuts_and_threads(
    models: dict[str, Model],
    kind: str,
    workers: int,
    seed: int,
    cuts: list[int],
    threads: int,
    max_message: int,
) -> None:
    cell = LocalCell(models[kind], workers, threads=threads, max_message=max_message)
    cell.engine.set_plan("random", seed=seed)
    assert np.array_equal(run(cell.engine, TOKENS, cuts), alone(models[kind], TOKENS))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    workers=st.sampled_from([1, 3]),
    max_message=st.sampled_from([1024, 2048, 65536]),
    keep=st.integers(0, 40),
)
def test_same_bits_when_messages_are_lost_and_doubled(
    models: dict[str, Model], seed: int, workers: int, max_message: int, keep: int
) -> None:
    """Also after a roll-back, and where a batch is cut into several messages, any of which may be the lost one."""
    cell = LocalCell(models["Q8_0"], workers, fate=lossy(seed, loss=0.05), re_request_s=0.0, max_message=max_message)
    cell.engine.set_plan("random", seed=seed)
    other = np.random.default_rng(2).integers(3, 320, 50).astype(np.int32)
    run(cell.engine, other, [33])
    cell.engine.truncate(0, keep)
    tokens = np.concatenate([other[:keep], TOKENS[:40]])
    assert np.array_equal(run(cell.engine, tokens[keep:], [35]), alone(models["Q8_0"], tokens)[keep:])


@pytest.mark.parametrize("doomed", range(6))
def test_a_lost_part_of_a_batch_after_a_roll_back_is_repaired(models: dict[str, Model], doomed: int) -> None:
    """The other parts, which arrive first, must not pass off old positions as new ones."""
    cell = LocalCell(models["Q4_0"], 1, max_message=1024, re_request_s=0.05)
    run(cell.engine, TOKENS[:48])
    cell.engine.truncate(0, 10)
    count = iter(range(10**6))
    cell.fate = lambda message: [] if next(count) == 2 * doomed else [message]
    tokens = np.concatenate([TOKENS[:10], TOKENS[20:52]])
    assert np.array_equal(run(cell.engine, tokens[10:]), alone(models["Q4_0"], tokens)[10:])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cuts", [[], [1, 2, 33]])
def test_a_group_out_of_range_repeats_the_sync_and_changes_no_bit(
    tiny_model: TinyModel, workers: int, cuts: list[int]
) -> None:
    model = open_model(tiny_model("F32", Shape(down_scale=3e4)))
    cell = LocalCell(model, workers)
    logits = run(cell.engine, TOKENS, cuts)
    assert cell.engine.stats()["range_repeats"] > 0
    assert np.array_equal(logits, alone(model, TOKENS))
    exact = alone(model, TOKENS, "f32")
    assert np.abs(logits - exact).max() < 1e-3 * np.abs(exact).max()


@pytest.mark.parametrize("kind", TYPES)
def test_fixed_is_as_precise_as_f32(models: dict[str, Model], kind: str) -> None:
    tolerance = {"F32": 2e-3, "F16": 2e-2, "BF16": 5e-2}.get(
        kind, 0.1
    )  # quantised inputs turn one rounding into a step
    exact = alone(models[kind], TOKENS, "f32")
    assert np.abs(alone(models[kind], TOKENS) - exact).max() < tolerance * np.abs(exact).max()


@pytest.mark.parametrize("kind", TYPES)
def test_f32_partials_agree_across_workers_within_rounding(models: dict[str, Model], kind: str) -> None:
    tolerance = {"F32": 2e-3, "F16": 2e-2, "BF16": 5e-2}.get(kind, 0.1)
    cell = LocalCell(models[kind], 3, partials="f32")
    exact = alone(models[kind], TOKENS, "f32")
    assert np.abs(run(cell.engine, TOKENS, [9]) - exact).max() < tolerance * np.abs(exact).max()


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=6),
    workers=st.sampled_from([0, 2]),
)
def test_rolling_back_leaves_no_trace(models: dict[str, Model], steps: list[tuple[int, int]], workers: int) -> None:
    cell = LocalCell(models["Q4_0"], workers)
    drawn = np.random.default_rng(3)
    history: list[int] = []
    for keep, n in steps:
        cell.engine.truncate(0, keep)
        history = history[:keep]
        assert cell.engine.n_past(0) == len(history)
        new = drawn.integers(3, 320, n).astype(np.int32)
        logits = cell.engine.forward(0, new, True)
        history += new.tolist()
        assert np.array_equal(logits, alone(models["Q4_0"], np.array(history, np.int32))[-n:])
