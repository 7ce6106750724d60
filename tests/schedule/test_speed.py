"""A device's speed as its answers tell it: base and slope, passing slow-downs, outliers, first requests."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo import _native

MLP, ATTENTION = _native.kind_of("mlp", 1), _native.kind_of("attention", 1)
PROMPT = _native.kind_of("mlp", 32)
BASE, SLOPE = 300.0, 80.0


def near(value: float, expected: float, share: float = 0.1) -> bool:
    return abs(value - expected) <= share * expected


def feed(
    speed: _native.Speed,
    times: int,
    *,
    slow: float = 1.0,
    noise: float = 0.0,
    seed: int = 1,
    kind: int = MLP,
    groups: tuple[int, ...] = tuple(range(2, 13)),
) -> None:
    drawn = random.Random(seed)
    for _ in range(times):
        n = drawn.choice(groups)
        speed.sample(kind, n, (BASE + SLOPE * n) * slow * drawn.uniform(1, 1 + noise))


def test_base_and_slope_are_found() -> None:
    speed = _native.Speed()
    feed(speed, 300)
    assert near(speed.start_us(MLP), BASE) and near(speed.group_us(MLP), SLOPE)
    assert speed.factor() == pytest.approx(1, abs=0.01)
    assert speed.predict(MLP, 32) == pytest.approx(speed.start_us(MLP) + 32 * speed.group_us(MLP))


def test_noise_of_a_shared_cpu_neither_moves_the_factor_nor_the_line() -> None:
    speed = _native.Speed()
    feed(speed, 300, noise=1.0)
    for i in range(100):
        feed(speed, 1, noise=1.0, seed=i)
        assert near(speed.factor(), 1, 0.25)
        assert near(speed.predict(MLP, 8), 1.5 * (BASE + SLOPE * 8), 0.3)


def test_a_number_of_groups_that_never_varies_is_all_slope() -> None:
    speed = _native.Speed()
    feed(speed, 300, noise=1.0, groups=(8,))
    assert speed.start_us(MLP) <= 0.01 * speed.predict(MLP, 8)
    assert near(speed.predict(MLP, 8), 1.5 * (BASE + SLOPE * 8), 0.3)


def test_requests_without_groups_tell_the_base_and_guess_at_the_slope() -> None:
    speed = _native.Speed()
    for _ in range(100):
        speed.sample(ATTENTION, 0, 200.0)
    assert near(speed.start_us(ATTENTION), 200)
    assert 0 < speed.group_us(ATTENTION) < 200
    for _ in range(3):  # and the first with groups tell it
        speed.sample(ATTENTION, 4, 200 + 4 * 400.0)
    assert near(speed.predict(ATTENTION, 4), 1800, 0.35)
    feed(speed, 20, kind=ATTENTION, groups=(0, 4))
    assert near(speed.predict(ATTENTION, 0), 300, 0.4)


@pytest.mark.parametrize("slow", [3.0, 8.0])
def test_a_passing_slow_down_is_followed_at_once_and_forgotten_at_once(slow: float) -> None:
    speed = _native.Speed()
    feed(speed, 300, noise=0.1)
    feed(speed, 8, slow=slow, noise=0.1)
    assert near(speed.factor(), slow, 0.35)
    feed(speed, 60, slow=slow, noise=0.1)  # about a second of tokens
    assert near(speed.predict(MLP, 8), slow * (BASE + SLOPE * 8), 0.15)
    feed(speed, 10, noise=0.1)
    assert near(speed.factor(), 1, 0.3)
    assert near(speed.predict(MLP, 8), BASE + SLOPE * 8, 0.3)


def test_a_slow_down_that_lasts_becomes_what_is_usual() -> None:
    speed = _native.Speed()
    feed(speed, 300)
    feed(speed, 1500, slow=3)
    assert near(speed.factor(), 1, 0.1)
    assert near(speed.predict(MLP, 8), 3 * (BASE + SLOPE * 8))
    feed(speed, 10)
    assert near(speed.predict(MLP, 8), BASE + SLOPE * 8, 0.3)


def test_a_slow_down_is_the_devices_not_the_kinds() -> None:
    speed = _native.Speed()
    feed(speed, 100)
    feed(speed, 100, kind=ATTENTION)
    feed(speed, 10, kind=ATTENTION, slow=3)
    assert near(speed.predict(MLP, 8), 3 * (BASE + SLOPE * 8), 0.25)


def test_one_outlier_changes_next_to_nothing() -> None:
    speed = _native.Speed()
    feed(speed, 100)
    speed.sample(MLP, 8, 1e6)
    assert near(speed.predict(MLP, 8), BASE + SLOPE * 8, 0.1)
    assert near(speed.factor(), 1, 0.05)


@pytest.mark.parametrize("cold", [1, 3, 22])
def test_first_requests_that_read_weights_from_a_disk_are_soon_forgotten(cold: int) -> None:
    speed = _native.Speed()
    feed(speed, cold, slow=30)
    feed(speed, 8)
    assert near(speed.predict(MLP, 8), BASE + SLOPE * 8, 0.5)
    feed(speed, 60)
    assert near(speed.predict(MLP, 8), BASE + SLOPE * 8, 0.1)


def test_a_kind_is_known_after_a_few_samples_and_guessed_from_its_neighbours_before() -> None:
    speed = _native.Speed()
    assert speed.predict(MLP, 8) == 0 and not speed.known(MLP)
    feed(speed, 4)
    assert speed.known(MLP) and not speed.known(PROMPT)
    assert speed.predict(MLP, 8) < speed.predict(PROMPT, 8) < 32 * speed.predict(MLP, 8)
    speed.sample(PROMPT, 8, 1e7)  # its first request reads a disk: no reason to fear the next
    assert speed.predict(PROMPT, 8) < 32 * (BASE + SLOPE * 8)


def test_a_request_that_always_takes_the_same_is_not_free_of_cost_by_group() -> None:
    speed = _native.Speed()
    drawn = random.Random(1)
    for _ in range(300):
        speed.sample(MLP, drawn.randint(1, 12), 5000.0)
    assert near(speed.predict(MLP, 6), 5000, 0.1)
    assert 0 < speed.group_us(MLP) < 100


TIMES = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 1e5)


@given(st.lists(st.tuples(st.integers(-2, 14), st.integers(-3, 64), TIMES), max_size=200))
def test_whatever_is_fed_in_estimates_stay_finite_and_not_negative(samples: list[tuple[int, int, float]]) -> None:
    speed = _native.Speed()
    for kind, groups, took in samples:
        speed.sample(kind, groups, took)
        assert 0.01 < speed.factor() < 100
        for k in range(-1, 14):
            for value in (speed.start_us(k), speed.group_us(k), speed.predict(k, 32)):
                assert math.isfinite(value) and value >= 0


def test_estimates_with_noise_keep_the_assignment_in_its_place() -> None:
    """Speed and the balanced plan together: takes that vary by 5% move groups a few times in 300 tokens at most."""
    drawn = random.Random(3)
    slopes = [100.0, 130.0, 90.0, 300.0]
    speeds = [_native.Speed() for _ in slopes]
    policy = _native.BalancedAssigner()
    history = []
    for _ in range(600):
        candidates = [
            _native.Candidate(start_us=s.start_us(MLP) + 500 * (i > 0), group_us=s.group_us(MLP), cost_us=20 * (i > 0))
            for i, s in enumerate(speeds)
        ]
        masks = policy.assign(0, "mlp", 32, 1, candidates)
        history.append(tuple(masks))
        for speed, slope, mask in zip(speeds, slopes, masks, strict=True):
            if mask:
                speed.sample(MLP, mask.bit_count(), (150 + slope * mask.bit_count()) * drawn.uniform(0.95, 1.05))
    late = history[300:]
    assert sum(a != b for a, b in itertools.pairwise(late)) <= 6
    assert all(m for m in late[-1])
