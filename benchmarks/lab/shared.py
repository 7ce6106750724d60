"""The memory that the switch and whoever commands it share; `struct Shared` in switch.c is its other half."""

from __future__ import annotations

import mmap
import struct
from dataclasses import astuple

from .conditions import Conditions, Counters

MOST_HOSTS = 65
_PID, _SEED, _SEQUENCE = 0, 8, 16
_CONDITIONS = struct.Struct("=8d")
_CONDITIONS_AT = 24
_NAMESPACES_AT = _CONDITIONS_AT + _CONDITIONS.size
_COUNTERS = struct.Struct("=6Q")
_COUNTERS_AT = 4096
SIZE = _COUNTERS_AT + 2 * MOST_HOSTS * _COUNTERS.size


class Shared:
    """A view of that memory, which lies in a file."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE)

    @property
    def pid(self) -> int:
        """The switch's; 0 until its namespaces stand."""
        return self._number(_PID)

    def seed(self, value: int) -> None:
        """For the switch's dice; before it starts."""
        struct.pack_into("=Q", self._memory, _SEED, value)

    def namespace(self, host: int) -> int:
        """The descriptor of a host's namespace in the switch's process."""
        (fd,) = struct.unpack_from("=i", self._memory, _NAMESPACES_AT + 4 * host)
        return int(fd)

    @property
    def hosts(self) -> int:
        """How many namespaces stand."""
        return sum(self.namespace(host) > 0 for host in range(MOST_HOSTS))

    @property
    def conditions(self) -> Conditions:
        return Conditions(*_CONDITIONS.unpack_from(self._memory, _CONDITIONS_AT))

    def write(self, conditions: Conditions) -> None:
        """They hold from the next frame on."""
        sequence = self._number(_SEQUENCE) | 1  # odd while we write
        struct.pack_into("=Q", self._memory, _SEQUENCE, sequence)
        _CONDITIONS.pack_into(self._memory, _CONDITIONS_AT, *astuple(conditions))
        struct.pack_into("=Q", self._memory, _SEQUENCE, sequence + 1)

    def counters(self, host: int) -> tuple[Counters, Counters]:
        """Of the frames to that host and from it."""
        down, up = (
            Counters(*_COUNTERS.unpack_from(self._memory, _COUNTERS_AT + (2 * host + direction) * _COUNTERS.size))
            for direction in (0, 1)
        )
        return down, up

    def close(self) -> None:
        self._memory.close()

    def _number(self, at: int) -> int:
        (number,) = struct.unpack_from("=Q", self._memory, at)
        return int(number)
