"""What each device did and what it cost in bytes, over changes of the membership."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

HUB = "hub"
"""How the hub is called in reports; no worker may have this name."""
_OWN = ""  # the hub's key here: no device has that name
_OTHER_END = {
    "messages_sent": "messages_received",
    "bytes_sent": "bytes_received",
    "messages_received": "messages_sent",
    "bytes_received": "bytes_sent",
}
_COUNTS = (
    "group_results", "requests", *_OTHER_END, "late_requests", "never", "stand_ins", "tolerant", "filled", "probations",
    "filled_rows",
)  # fmt: skip
_AVERAGES = ("took_us", "link_us")
_LATE = "late"


class Ledger:
    """Sums of the native figures, which end with a member's index: whoever comes again goes on with its sums.

    The engine counts messages and bytes as the hub sees them. Here each device's figures are its own: what a
    worker has sent is what the hub has received from it, and the hub's are those of all workers together.
    """

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, Any]] = {_OWN: _nothing()}

    def add(self, name: str, figures: Mapping[str, Any]) -> None:
        """Add the figures of a worker's index that is given up."""
        hub, sums = self._devices[_OWN], self._devices.setdefault(name, _nothing())
        for key in _COUNTS:
            count = int(figures.get(key, 0))
            sums[_OTHER_END.get(key, key)] += count
            if key in _OTHER_END and name != _OWN:
                hub[key] += count
        late = list(figures.get(_LATE, []))
        sums[_LATE] = [a + b for a, b in zip(_padded(sums[_LATE], late), _padded(late, sums[_LATE]), strict=True)]
        sums.update({key: round(figures[key], 1) for key in _AVERAGES if figures.get(key) is not None})

    def with_running(self, stats: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
        """The sums, with what the engine counts now of the workers of these indices.

        {"devices": [{"name", ...}], "counters": {...}}, the hub first, then the workers as they came.
        """
        both = Ledger()
        both._devices = copy.deepcopy(self._devices)
        devices = stats.get("devices", [])
        if devices:
            both.add(_OWN, devices[0])
        for index, name in sorted(names.items()):
            both.add(name, devices[1 + index] if 1 + index < len(devices) and devices[1 + index] else {})
        return {
            "devices": [{"name": name or HUB, **figures} for name, figures in both._devices.items()],
            "counters": {key: value for key, value in stats.items() if isinstance(value, int)},
        }


def summarize(sums: dict[str, Any]) -> dict[str, Any]:
    """Add each device's share of the group results, and what the hub has sent and received."""
    devices = sums["devices"]
    results = sum(d["group_results"] for d in devices)
    for device in devices:
        device["share"] = round(device["group_results"] / results, 4) if results else 0.0
    return {**sums, "totals": {key: devices[0][key] for key in _OTHER_END}}


def _nothing() -> dict[str, Any]:
    return {**dict.fromkeys(_COUNTS, 0), _LATE: []}


def _padded(counts: list[int], other: list[int]) -> list[int]:
    return counts + [0] * (len(other) - len(counts))
