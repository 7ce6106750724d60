"""The soft deadline: patient with what is usual, quick where waiting costs more than computing it again."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo import _native

STAND_IN = 800.0  # microseconds


def stood_in(deadline: _native.Deadline, errors: list[float], stand_in: float = STAND_IN) -> tuple[float, float]:
    """Shares of these requests, after the first 50, that are stood in for, and the mean allowance."""
    late, allowances = 0, []
    for i, error in enumerate(errors):
        allowance = deadline.allowance(3000, stand_in)
        if i >= 50:
            late += error > allowance
            allowances.append(allowance)
        deadline.sample(error)
    return late / len(allowances), sum(allowances) / len(allowances)


def test_before_it_knows_it_waits_for_three_times_the_prediction() -> None:
    deadline = _native.Deadline()
    assert deadline.allowance(4000, STAND_IN) == 8000
    assert deadline.allowance(10, STAND_IN) == 1000
    for _ in range(49):
        deadline.sample(0)
    assert deadline.allowance(4000, STAND_IN) == 8000
    deadline.sample(0)
    assert 1000 <= deadline.allowance(4000, STAND_IN) <= 1100


@pytest.mark.parametrize("width", [50.0, 500.0, 1500.0])
@pytest.mark.parametrize("stand_in", [0.0, 800.0, 20000.0])
def test_what_is_usual_is_waited_for(width: float, stand_in: float) -> None:
    for seed in range(5):
        drawn = random.Random(seed)
        normal = [drawn.gauss(0, width) for _ in range(4000)]
        assert stood_in(_native.Deadline(), normal, stand_in)[0] < 0.01
        skewed = [drawn.expovariate(4 / width) - width / 4 for _ in range(4000)]
        assert stood_in(_native.Deadline(), skewed, stand_in)[0] < 0.01


def fades(drawn: random.Random, share: float, requests: int) -> list[float]:
    """The bulk within about half a millisecond; a share of the requests in fades of 20 ms in the mean."""
    return [
        drawn.gauss(0, 150) + (drawn.expovariate(1 / 20000) if drawn.random() < share else 0) for _ in range(requests)
    ]


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_fades_are_cut_short(share: float) -> None:
    for seed in range(5):
        stand_ins, allowance = stood_in(_native.Deadline(), fades(random.Random(seed), share, 4000))
        assert allowance < 450 + 1600
        assert 0.8 * share < stand_ins < share + 0.015


def test_fades_are_waited_for_where_a_stand_in_would_take_longer() -> None:
    stand_ins, _ = stood_in(_native.Deadline(), fades(random.Random(1), 0.02, 4000), stand_in=60000)
    assert stand_ins < 0.01


def test_a_stand_in_of_another_length_is_judged_anew_at_once() -> None:
    deadline = _native.Deadline()
    stood_in(deadline, fades(random.Random(1), 0.02, 400))
    assert deadline.allowance(3000, STAND_IN) < 2500
    assert deadline.allowance(3000, 100000) > 10000


def test_a_link_that_has_become_slower_for_good_is_waited_for() -> None:
    drawn = random.Random(1)
    deadline = _native.Deadline()
    stood_in(deadline, [drawn.gauss(0, 150) for _ in range(400)])
    slower = [drawn.gauss(3000, 150) for _ in range(400)]
    stood_in(deadline, slower)
    assert stood_in(deadline, [drawn.gauss(3000, 150) for _ in range(1000)])[0] < 0.01


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(ANY | st.floats(-1e5, 1e5), max_size=400), ANY, ANY)
def test_whatever_is_fed_in_the_allowance_is_a_time(errors: list[float], predicted: float, stand_in: float) -> None:
    deadline = _native.Deadline()
    for i, error in enumerate(errors):
        deadline.sample(error)
        if i % 20 == 0:
            deadline.allowance(predicted, stand_in)
    allowance = deadline.allowance(predicted, stand_in)
    assert math.isfinite(allowance) and allowance >= 1000
