"""The memory that the switch and whoever commands it share; `struct Shared` in switch.c is its other half."""

from __future__ import annotations

import mmap
import struct
from dataclasses import astuple

from .conditions import Conditions, Counters, LabError

MOST_HOSTS = 65
_PID, _SEED, _SEQUENCE = 0, 8, 16
_CONDITIONS = struct.Struct("=8d")
_CONDITIONS_AT = 24
_NAMESPACES_AT = _CONDITIONS_AT + MOST_HOSTS * _CONDITIONS.size
_COUNTERS = struct.Struct("=6Q")
_COUNTERS_AT = 8192
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

    def conditions(self, host: int = 0) -> Conditions:
        """Of that worker's link; of host 0: what was set for all of them last."""
        return Conditions(*_CONDITIONS.unpack_from(self._memory, _CONDITIONS_AT + host * _CONDITIONS.size))

    def write(self, conditions: Conditions, host: int | None = None) -> None:
        """They hold from the next frame on: for every link, or for that worker's alone; raises LabError.

        The medium is everybody's: one link's conditions leave it as it is.
        """
        if host is None:
            written = dict.fromkeys(range(MOST_HOSTS), conditions)
        else:
            check_host(host, self.hosts)
            if conditions.rate_kbit or conditions.frame_us:
                raise LabError("All hosts share one medium: rate_kbit and frame_us cannot be set for one of them.")
            written = {host: conditions}
        sequence = self._number(_SEQUENCE) | 1  # odd while we write
        struct.pack_into("=Q", self._memory, _SEQUENCE, sequence)
        for each, its in written.items():
            _CONDITIONS.pack_into(self._memory, _CONDITIONS_AT + each * _CONDITIONS.size, *astuple(its))
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


def check_host(host: int, hosts: int) -> None:
    """Raise LabError where that is no worker's number: host 0 has no link of its own."""
    if not 1 <= host < hosts:
        raise LabError(f"There is no link of a host {host}: workers are hosts 1 to {hosts - 1}.")
