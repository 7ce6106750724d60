"""Devices as the tests of this folder describe them: candidates drawn by hypothesis, and what an assignment takes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from halo import _native

EVERYTHING = 2**64 - 1


@dataclass(frozen=True)
class Device:
    """What `_native.Candidate` is made of; times are microseconds. The first of a list is the hub."""

    takes: bool = True
    slow: bool = False
    resident: int = EVERYTHING
    start: float = 0.0
    group: float = 1.0
    cost: float = 0.0
    lateness: float = 0.0
    unstable: bool = False

    @property
    def native(self) -> _native.Candidate:
        return _native.Candidate(
            takes=self.takes,
            slow=self.slow,
            resident=self.resident,
            start_us=self.start,
            group_us=self.group,
            cost_us=self.cost,
            lateness=self.lateness,
            unstable=self.unstable,
        )


def assign(
    assigner: _native.Assigner, devices: list[Device], groups: int, layer: int = 0, part: str = "mlp", rows: int = 1
) -> list[int]:
    return assigner.assign(layer, part, groups, rows, [d.native for d in devices])


def holds(device: Device, group: int) -> bool:
    return bool(device.resident >> group & 1)


def makespan(devices: list[Device], masks: list[int]) -> float:
    """When the last device is done, the hub after what each device that it uses costs it."""
    counts = [m.bit_count() for m in masks]
    used = [i for i in range(1, len(devices)) if counts[i]]
    hub = devices[0].start + sum(devices[i].cost for i in used) + counts[0] * devices[0].group
    return max([hub, *(devices[i].start + counts[i] * devices[i].group for i in used)])


def check(devices: list[Device], groups: int, masks: list[int]) -> None:
    """Every group is given once, to a device that takes part and holds it; to the hub where there is none."""
    assert len(masks) == len(devices)
    assert sum(masks) == (1 << groups) - 1
    for group in range(groups):
        [to] = [i for i, m in enumerate(masks) if m >> group & 1]
        holders = [i for i, d in enumerate(devices) if (d.takes or i == 0) and holds(d, group)]
        assert to in (holders or [0])


def runs(mask: int) -> int:
    """Of how many runs of consecutive groups a mask consists."""
    return (mask & ~(mask << 1)).bit_count()


def lists_of_devices(
    max_workers: int, groups: int = 64, *, everything: bool = False, least_group: float = 0.0
) -> st.SearchStrategy[list[Device]]:
    times = st.floats(0, 5000)
    resident = st.just(EVERYTHING) if everything else st.integers(0, 2**groups - 1) | st.just(EVERYTHING)
    device = st.builds(
        Device,
        takes=st.booleans(),
        slow=st.booleans(),
        resident=resident,
        start=times,
        group=st.floats(least_group, 500),
        cost=st.floats(0, 300),
    )
    return st.lists(device, min_size=1, max_size=max_workers + 1)
