"""Every policy gives every group to one device that may have it; the baseline spreads them evenly, as it always did."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo import _native
from tests.schedule.devices import Device, assign, check, lists_of_devices


def policies(seed: int, hub_share: float | None) -> list[_native.Assigner]:
    return [_native.BalancedAssigner(), _native.EvenAssigner(hub_share), _native.RandomAssigner(seed)]


@given(
    st.lists(lists_of_devices(8), min_size=1, max_size=3),
    st.integers(1, 64),
    st.none() | st.floats(0, 1),
    st.integers(0, 40),
    st.sampled_from([1, 4, 32]),
    st.sampled_from(["attention", "mlp"]),
)
def test_every_group_is_given_once_and_only_to_who_takes_part_and_holds_it(
    situations: list[list[Device]], groups: int, hub_share: float | None, layer: int, rows: int, part: str
) -> None:
    for policy in policies(layer, hub_share):
        for devices in situations:  # what was assigned before must not outlive what has changed
            masks = assign(policy, devices, groups, layer, part, rows)
            check(devices, groups, masks)


@given(st.lists(st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1e300, 5.0]), min_size=12, max_size=12))
def test_figures_that_are_no_times_still_give_an_assignment(times: list[float]) -> None:
    devices = [Device(start=a, group=b, cost=c) for a, b, c in zip(*[iter(times)] * 3, strict=True)]
    policy = _native.BalancedAssigner()
    for _ in range(3):
        check(devices, 32, assign(policy, devices, 32))


def test_what_nobody_else_holds_is_the_hubs_even_if_it_has_to_read_it() -> None:
    devices = [Device(resident=0), Device(resident=0b0011), Device(resident=0b1111, takes=False)]
    for policy in policies(1, 0.0):
        assert assign(policy, devices, 4) == [0b1100, 0b0011, 0]


def test_shards_leave_the_hub_without_a_group_while_their_holders_take_part() -> None:
    shards = [Device(resident=0), Device(resident=0b000111), Device(resident=0b111000)]
    for policy in policies(1, None):
        assert assign(policy, shards, 6) == [0, 0b000111, 0b111000]


def even_by_hand(layer: int, groups: int, workers: int, hub_share: float | None) -> list[int]:
    """The even plan while every worker takes part and holds everything."""
    share = 1 / (workers + 1) if hub_share is None else hub_share

    def of_hub(before: int) -> int:
        return int(share * groups * before + 1e-6)

    own = of_hub(layer + 1) - of_hub(layer) if workers else groups
    masks = [(1 << own) - 1] + [0] * workers
    for g in range(groups - own):
        masks[1 + (g * workers // (groups - own) + layer) % workers] |= 1 << (own + g)
    return masks


@given(st.integers(0, 40), st.integers(1, 64), st.integers(0, 8), st.none() | st.floats(0, 1))
def test_even_is_the_even_plan_where_everyone_takes_part(
    layer: int, groups: int, workers: int, hub_share: float | None
) -> None:
    policy = _native.EvenAssigner(hub_share)
    assert assign(policy, [Device()] * (workers + 1), groups, layer) == even_by_hand(layer, groups, workers, hub_share)


@given(lists_of_devices(8, everything=True), st.integers(1, 64), st.integers(0, 40))
def test_even_leaves_out_who_takes_no_part_and_who_is_slow_unless_all_are(
    devices: list[Device], groups: int, layer: int
) -> None:
    taking = [i for i in range(1, len(devices)) if devices[i].takes]
    asked = [i for i in taking if not devices[i].slow] or taking
    masks = assign(_native.EvenAssigner(0.0), devices, groups, layer)
    if not asked:
        assert masks[0] == (1 << groups) - 1
        return
    by_hand = even_by_hand(layer, groups, len(asked), 0.0)
    assert [masks[i] for i in asked] == by_hand[1:]
    assert sum(m != 0 for m in masks) == sum(m != 0 for m in by_hand)


def test_even_spreads_what_several_hold_and_asks_a_slow_one_only_for_what_it_alone_holds() -> None:
    half, other = 0x0000FFFF, 0xFFFF0000
    devices = [Device(), Device(resident=half), Device(resident=half), Device(resident=other), Device(resident=other)]
    assert [m.bit_count() for m in assign(_native.EvenAssigner(0.0), devices, 32)] == [0, 8, 8, 8, 8]
    hub, *workers = [m.bit_count() for m in assign(_native.EvenAssigner(0.25), devices, 32)]
    assert hub == 8 and max(workers) - min(workers) <= 2
    slow = [Device(resident=0), Device(resident=0b0111), Device(resident=0b1111, slow=True)]
    assert assign(_native.EvenAssigner(0.0), slow, 4) == [0, 0b0111, 0b1000]


def test_random_draws_anew_at_every_sync() -> None:
    policy = _native.RandomAssigner(random.randrange(2**32))
    drawn = {tuple(assign(policy, [Device()] * 3, 32)) for _ in range(20)}
    assert len(drawn) == 20


def test_bad_questions_are_refused() -> None:
    for policy in policies(1, None):
        for layer, part, groups, rows in [(-1, "mlp", 4, 1), (0, "mlp", 0, 1), (0, "mlp", 65, 1), (0, "head", 4, 1)]:
            with pytest.raises(ValueError, match=r"expected|part"):
                policy.assign(layer, part, groups, rows, [Device().native])
        with pytest.raises(ValueError, match="hub"):
            policy.assign(0, "mlp", 4, 1, [])
