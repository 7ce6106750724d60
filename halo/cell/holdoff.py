"""Who comes too often waits: a device that joins and leaves ten times a second must cost nobody anything."""

from __future__ import annotations

from collections.abc import Callable

_MEMORY_S = 30.0
_FIRST_S, _LONGEST_S = 0.25, 4.0


class Holdoff:
    """How long a device has to wait until it may come again, by how often it came lately."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._came: dict[str, list[float]] = {}

    def note(self, name: str) -> None:
        """It comes now."""
        self._came = {other: recent for other in self._came if (recent := self._recent(other))}
        self._came[name] = [*self._recent(name), self._now()]

    def allows(self, name: str) -> bool:
        """Whether it may come now."""
        recent = self._recent(name)
        return not recent or self._now() - recent[-1] >= min(_FIRST_S * 2 ** (len(recent) - 1), _LONGEST_S)

    def _recent(self, name: str) -> list[float]:
        begin = self._now() - _MEMORY_S
        return [at for at in self._came.get(name, []) if at > begin]
