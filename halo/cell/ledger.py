"""What each device did and what it cost in bytes, over changes of the membership."""

from __future__ import annotations

from typing import Any

HUB = "hub"
"""How the hub is called in reports; no worker may have this name."""
_OWN = ""  # the hub's key here: no device has that name
_COUNTS = ("group_results", "requests", "messages_sent", "bytes_sent", "messages_received", "bytes_received")
_OTHER_END = {
    "messages_sent": "messages_received",
    "bytes_sent": "bytes_received",
    "messages_received": "messages_sent",
    "bytes_received": "bytes_sent",
}


class Ledger:
    """Sums of the native engine's figures, which begin anew with each list of workers.

    The engine counts messages and bytes as the hub sees them. Here each device's figures are its own: what a
    worker has sent is what the hub has received from it, and the hub's are those of all workers together.
    """

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, int]] = {}
        self._totals: dict[str, int] = {}

    def add(self, stats: dict[str, Any], workers: list[str]) -> None:
        """Add the figures of one formation; its first device is the hub."""
        hub = self._devices.setdefault(_OWN, dict.fromkeys(_COUNTS, 0))
        for name, figures in zip([_OWN, *workers], stats.get("devices", []), strict=False):
            sums = self._devices.setdefault(name, dict.fromkeys(_COUNTS, 0))
            for key in _COUNTS:
                count = int(figures.get(key, 0))
                sums[_OTHER_END.get(key, key)] += count
                if key in _OTHER_END and name != _OWN:
                    hub[key] += count
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
            "devices": [{"name": n or HUB, **figures} for n, figures in both._devices.items()],
            "counters": both._totals,
        }


def summarize(sums: dict[str, Any]) -> dict[str, Any]:
    """Add each device's share of the group results, and what the hub has sent and received."""
    devices = sums["devices"]
    results = sum(d["group_results"] for d in devices)
    for device in devices:
        device["share"] = round(device["group_results"] / results, 4) if results else 0.0
    return {**sums, "totals": {key: devices[0][key] for key in _OTHER_END}}
