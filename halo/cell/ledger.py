"""What each device did and what it cost in bytes, over changes of the membership."""

from __future__ import annotations

from typing import Any

HUB = "hub"
_COUNTS = ("group_results", "requests", "messages_sent", "bytes_sent", "messages_received", "bytes_received")


class Ledger:
    """Sums of the native engine's figures, which begin anew with each list of workers."""

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, int]] = {}
        self._totals: dict[str, int] = {}

    def add(self, stats: dict[str, Any], workers: list[str]) -> None:
        """Add the figures of one formation; its first device is the hub."""
        for name, figures in zip([HUB, *workers], stats.get("devices", []), strict=False):
            sums = self._devices.setdefault(name, dict.fromkeys(_COUNTS, 0))
            for key in _COUNTS:
                sums[key] += int(figures.get(key, 0))
        for key, value in stats.items():
            if isinstance(value, int):
                self._totals[key] = self._totals.get(key, 0) + value

    def with_running(self, stats: dict[str, Any], workers: list[str]) -> dict[str, Any]:
        """The sums so far and the running formation's: {"devices": [{"name", ...}], "counters": {...}}."""
        both = Ledger()
        both._devices = {name: dict(figures) for name, figures in self._devices.items()}
        both._totals = dict(self._totals)
        both.add(stats, workers)
        return {
            "devices": [{"name": n, **figures} for n, figures in both._devices.items()],
            "counters": both._totals,
        }


def summarize(sums: dict[str, Any]) -> dict[str, Any]:
    """Add each device's share of the group results, and what all messages come to."""
    devices = sums["devices"]
    results = sum(d["group_results"] for d in devices)
    for device in devices:
        device["share"] = round(device["group_results"] / results, 4) if results else 0.0
    totals = {key: sum(d[key] for d in devices[1:]) for key in _COUNTS[2:]}
    return {**sums, "totals": totals}
