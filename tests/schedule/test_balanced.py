"""The balanced plan: all finish together, who does not pay has nothing, and nothing moves without a reason."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native
from tests.schedule.devices import Device, assign, check, holds, lists_of_devices, makespan, runs

TOLERANCE = 1.10  # of the best there is


def counts(masks: list[int]) -> list[int]:
    return [m.bit_count() for m in masks]


def splits(groups: int, devices: int) -> Iterator[list[int]]:
    """All ways to give so many groups to so many devices, as counts."""
    for bars in itertools.combinations(range(groups + devices - 1), devices - 1):
        edges = (-1, *bars, groups + devices - 1)
        yield [edges[i + 1] - edges[i] - 1 for i in range(devices)]


@settings(deadline=None, derandomize=True)
@given(lists_of_devices(4, everything=True, least_group=1.0), st.integers(1, 8))
def test_nothing_is_much_better_where_everyone_holds_everything(devices: list[Device], groups: int) -> None:
    masks = assign(_native.BalancedAssigner(), devices, groups)
    best = min(
        makespan(devices, [(1 << n) - 1 for n in split])
        for split in splits(groups, len(devices))
        if all(d.takes or n == 0 for d, n in zip(devices[1:], split[1:], strict=True))
    )
    assert makespan(devices, masks) <= best * TOLERANCE + 0.1


@settings(deadline=None, derandomize=True)
@given(lists_of_devices(3, 6, least_group=1.0), st.integers(1, 6))
def test_nothing_is_much_better_where_everyone_holds_something(devices: list[Device], groups: int) -> None:
    masks = assign(_native.BalancedAssigner(), devices, groups)
    check(devices, groups, masks)
    may = []
    for g in range(groups):
        workers = [i for i, d in enumerate(devices) if i > 0 and d.takes and holds(d, g)]
        may.append(([0] if holds(devices[0], g) or not workers else []) + workers)
    best = min(
        makespan(devices, [sum(1 << g for g in range(groups) if to[g] == i) for i in range(len(devices))])
        for to in itertools.product(*may)
    )
    assert makespan(devices, masks) <= best * TOLERANCE + 0.1


@given(lists_of_devices(8, everything=True), st.integers(1, 64))
def test_a_devices_groups_are_consecutive(devices: list[Device], groups: int) -> None:
    assert all(runs(m) <= 1 for m in assign(_native.BalancedAssigner(), devices, groups))


def test_who_is_twice_as_fast_has_twice_as_much() -> None:
    devices = [Device(group=100), Device(group=50), Device(group=100)]
    assert counts(assign(_native.BalancedAssigner(), devices, 32)) == [8, 16, 8]


def test_a_sync_that_does_not_pay_is_not_made() -> None:
    far = [Device(group=50), Device(group=50, start=2000), Device(group=50, start=2000)]
    assert assign(_native.BalancedAssigner(), far, 32) == [2**32 - 1, 0, 0]
    dear = [Device(group=50), *[Device(group=50, cost=1700)] * 4]
    assert sum(m != 0 for m in assign(_native.BalancedAssigner(), dear, 32)[1:]) == 0


def test_what_a_device_still_owes_counts() -> None:
    devices = [Device(group=100), Device(group=100, start=100), Device(group=100, start=900)]
    assert counts(assign(_native.BalancedAssigner(), devices, 32)) == [14, 13, 5]


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([4, 8, 22, 32]), st.booleans())
def test_noise_of_the_estimates_moves_nothing_to_and_fro(seed: int, workers: int, groups: int, shards: bool) -> None:
    drawn = random.Random(seed)
    devices = [Device(group=drawn.uniform(20, 200))]
    for i in range(workers):
        resident = sum(1 << g for g in range(groups) if g % workers in (i, (i + 1) % workers))
        devices.append(
            Device(
                resident=resident if shards else 2**64 - 1,
                start=drawn.uniform(200, 2000),
                group=drawn.uniform(20, 400),
                cost=drawn.uniform(5, 60),
            )
        )
    policy = _native.BalancedAssigner()
    changes, before = 0, assign(policy, devices, groups)
    for _ in range(200):
        noisy = [
            Device(
                resident=d.resident,
                start=d.start * drawn.uniform(0.95, 1.05),
                group=d.group * drawn.uniform(0.95, 1.05),
                cost=d.cost,
            )
            for d in devices
        ]
        masks = assign(policy, noisy, groups)
        changes += masks != before
        before = masks
    assert changes <= 20


def test_a_clear_slow_down_moves_groups_at_once_and_a_small_one_soon() -> None:
    policy = _native.BalancedAssigner()
    usual = [Device(group=100), Device(group=100), Device(group=100)]
    before = assign(policy, usual, 33)
    slowed = [Device(group=100), Device(group=100), Device(group=300)]
    assert counts(assign(policy, slowed, 33))[2] <= 5
    assert len({tuple(assign(policy, usual, 33)) for _ in range(10)}) == 1
    assert counts(assign(policy, usual, 33)) == counts(before)
    a_little = [Device(group=100), Device(group=100), Device(group=120)]
    assert counts([assign(policy, a_little, 33) for _ in range(10)][-1])[2] < counts(before)[2]


def test_who_goes_and_who_comes_is_seen_at_once() -> None:
    policy = _native.BalancedAssigner()
    both = [Device(group=100), Device(group=100), Device(group=100)]
    without = [Device(group=100), Device(group=100), Device(group=100, takes=False)]
    assert counts(assign(policy, both, 30)) == [10, 10, 10]
    assert counts(assign(policy, without, 30)) == [15, 15, 0]
    assert counts(assign(policy, both, 30)) == [10, 10, 10]


def test_layers_parts_and_sizes_are_kept_apart() -> None:
    policy = _native.BalancedAssigner()
    one, other = [Device(group=100), Device(group=100)], [Device(group=100), Device(group=103)]
    assert counts(assign(policy, one, 32)) == [16, 16]
    for layer, part, rows in [(1, "mlp", 1), (0, "attention", 1), (0, "mlp", 32)]:
        fast = [Device(group=100), Device(group=25)]
        assert counts(assign(policy, fast, 32, layer, part, rows))[1] > 20
    assert counts(assign(policy, other, 32)) == [16, 16]
