"""What matters least goes to whom can be relied on least; who holds what, and how many each has, stays."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from halo import _native
from tests.schedule.devices import Device, assign, check, holds, lists_of_devices

LATE = Device(lateness=0.2)


def place(scores: list[float], devices: list[Device], masks: list[int]) -> list[int]:
    return _native.place(scores, [d.native for d in devices], masks)


def unreliable(device: Device) -> bool:
    return device.unstable or device.lateness > 0.01


@st.composite
def cells(draw: st.DrawFn, groups: int) -> list[Device]:
    """Devices of which some are late, and some on probation."""
    devices = draw(lists_of_devices(6, groups))
    return devices[:1] + [
        replace(d, lateness=draw(st.sampled_from([0.0, 0.0, 0.005, 0.1, 0.5])), unstable=draw(st.booleans()))
        for d in devices[1:]
    ]


@given(st.data(), st.integers(1, 64))
def test_every_device_keeps_as_many_groups_and_gets_only_what_it_holds(data: st.DataObject, groups: int) -> None:
    devices = data.draw(cells(groups))
    scores = data.draw(st.lists(st.floats(-5, 5, width=32), min_size=groups, max_size=groups))
    before = assign(_native.RandomAssigner(groups), devices, groups)
    after = place(scores, devices, before)
    check(devices, groups, after)
    assert [m.bit_count() for m in after] == [m.bit_count() for m in before]
    reliable = [i for i, d in enumerate(devices) if not unreliable(d)]
    moved = 0
    for b, a in zip(before, after, strict=True):
        moved |= b ^ a

    def sum_of(masks: list[int]) -> float:
        return sum(s for g, s in enumerate(scores) for i in reliable if masks[i] >> g & 1)

    assert sum_of(after) >= sum_of(before) - 1e-9
    if len(reliable) == len(devices):
        assert moved == 0


@given(st.permutations(range(32)), st.integers(0, 100))
def test_where_everybody_holds_everything_the_least_reliable_has_the_lowest(ranks: list[int], seed: int) -> None:
    devices = [Device(), Device(lateness=0.1), Device(), Device(lateness=0.9), Device(unstable=True)]
    before = assign(_native.RandomAssigner(seed), devices, 32)
    after = place([float(r) for r in ranks], devices, before)
    taken = 0
    for i in (4, 3, 1):
        count = before[i].bit_count()
        assert {ranks[g] for g in range(32) if after[i] >> g & 1} == set(range(taken, taken + count))
        taken += count


@given(st.lists(st.floats(-5, 5, width=32), min_size=8, max_size=8))
def test_where_all_are_reliable_nothing_moves(scores: list[float]) -> None:
    devices = [Device(), Device(lateness=0.005), Device()]
    masks = [0b11, 0b11100, 0b11100000]
    assert place(scores, devices, masks) == masks


def test_a_group_that_the_other_one_does_not_hold_stays() -> None:
    devices = [Device(resident=0b0011), replace(LATE, resident=0b1101)]
    assert place([0, 1, 2, 3], devices, [0b0011, 0b1100]) == [0b0011, 0b1100]
    devices = [Device(resident=0b1011), replace(LATE, resident=0b1101)]
    assert place([0, 1, 2, 3], devices, [0b0011, 0b1100]) == [0b1010, 0b0101]


def test_infinite_scores_are_scores() -> None:
    inf = float("inf")
    assert place([inf, 1, -inf, 2], [Device(), LATE], [0b1110, 0b0001]) == [0b1011, 0b0100]


# ---- what only unreliable devices hold


@given(st.data(), st.integers(1, 64))
def test_what_only_unreliable_devices_hold_is_told(data: st.DataObject, groups: int) -> None:
    devices = data.draw(cells(groups))
    found = _native.held_unreliably([d.native for d in devices], groups)
    for g in range(64):
        holders = [d for i, d in enumerate(devices) if (i == 0 or d.takes) and holds(d, g) and g < groups]
        assert (found >> g & 1 == 1) == (bool(holders) and all(unreliable(d) for d in holders))


def test_only_requests_without_a_critical_group_may_be_late_and_only_of_who_may_be_late() -> None:
    devices = [d.native for d in (Device(), LATE, LATE, Device(), Device(unstable=True), LATE)]
    masks = [0b1, 0b110, 0b1001000, 0b10000, 0b100000, 0]
    assert _native.may_be_late(0b0110110, False, devices, masks) == 0b01001
    assert _native.may_be_late(0b0110110, True, devices, masks) == 0b01101


def test_a_device_on_probation_that_alone_holds_groups_takes_no_time_of_the_others() -> None:
    """Nobody waits for it: the rest is shared as if it were not there."""
    devices = [Device(resident=0b1111, group=100), Device(resident=0b1111, group=100)]
    alone = Device(resident=0b110000, unstable=True, start=50_000, group=9000)
    assert assign(_native.BalancedAssigner(), [*devices, alone], 6) == [0b0011, 0b1100, 0b110000]


# ---- planned lateness


@given(st.data(), st.integers(1, 64), st.integers(0, 9))
def test_planned_lateness_leaves_all_critical_groups_with_the_hub(data: st.DataObject, groups: int, layer: int) -> None:
    devices = data.draw(cells(groups))
    candidates = [d.native for d in devices]
    tolerant = data.draw(st.integers(0, 2**groups - 1)) | _native.held_unreliably(candidates, groups)
    masks = _native.place_planned(layer, groups, tolerant, candidates)
    check_all(devices, groups, masks)
    critical = (2**groups - 1) & ~tolerant
    assert masks[0] & critical == critical
    stable = [i for i, d in enumerate(devices) if i > 0 and d.takes and not unreliable(d)]
    for g in range(groups):
        if tolerant >> g & 1 and any(holds(devices[i], g) for i in stable):
            assert any(masks[i] >> g & 1 for i in stable)


def check_all(devices: list[Device], groups: int, masks: list[int]) -> None:
    """Every group is given once, to a device that takes part and holds it, or to the hub."""
    assert sum(masks) == (1 << groups) - 1
    for i, mask in enumerate(masks[1:], 1):
        assert mask == 0 or (devices[i].takes and mask & ~devices[i].resident == 0)


def test_planned_lateness_spreads_tolerant_groups_evenly() -> None:
    devices = [Device().native] * 4
    masks = _native.place_planned(0, 12, 0b111111000000, devices)
    assert masks[0] == 0b111111
    assert [m.bit_count() for m in masks[1:]] == [2, 2, 2]
