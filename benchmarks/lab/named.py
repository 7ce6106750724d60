"""A laboratory that outlives the command which makes it, found again by its name."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path

from .build import why_not
from .conditions import Conditions, Counters, LabError
from .laboratory import await_switch, furnish, on_host, start
from .shared import MOST_HOSTS, SIZE, Shared

_FOLDER = Path("/run")


class NamedLab:
    """The laboratory of that name; raises LabError where there is none."""

    def __init__(self, name: str) -> None:
        self._file = _file(name)
        try:
            fd = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LabError(f"There is no laboratory {name!r}. Make one: python -m benchmarks.lab up") from None
        except PermissionError:
            raise LabError(why_not() or f"{self._file} cannot be opened.") from None
        try:
            self._shared = Shared(fd)
        finally:
            os.close(fd)
        if not _is_switch(self._shared.pid):
            self._file.unlink()
            raise LabError(f"The laboratory {name!r} has ended. Make a new one: python -m benchmarks.lab up")

    @classmethod
    def make(cls, name: str, hosts: int, conditions: Conditions, congestion: str) -> NamedLab:
        """Make it; it stays until it is taken down."""
        if reason := why_not():
            raise LabError(reason)
        if not 2 <= hosts <= MOST_HOSTS:
            raise LabError(f"{hosts} hosts cannot be had: a laboratory has 2 to {MOST_HOSTS}.")
        with contextlib.suppress(LabError):
            cls(name)
            raise FileExistsError(f"There is a laboratory {name!r} already: take it down, or choose another --name.")
        file = _file(name)
        with file.open("xb") as memory:
            file.chmod(0o600)
            memory.truncate(SIZE)
        with file.open("r+b") as memory:
            shared = Shared(memory.fileno())
        try:
            shared.seed(secrets.randbits(64))
            shared.write(conditions)
            process, errors = start(hosts, str(file), detached=True)
            await_switch(shared, process, errors)
            lab = cls(name)
            for host in range(hosts):
                furnish(host, hosts, lab.namespace(host), congestion)
        except BaseException:
            if shared.pid:
                os.kill(shared.pid, signal.SIGKILL)
            file.unlink(missing_ok=True)
            raise
        return lab

    @property
    def hosts(self) -> int:
        return self._shared.hosts

    def conditions(self, host: int = 0) -> Conditions:
        """Of that worker's link; of host 0: what was set for all of them last."""
        return self._shared.conditions(host)

    def set(self, conditions: Conditions, host: int | None = None) -> None:
        """As `Lab.set`."""
        self._shared.write(conditions, host)

    def counters(self, host: int) -> tuple[Counters, Counters]:
        """Of the frames to that worker and from it."""
        return self._shared.counters(host)

    def namespace(self, host: int) -> Path:
        """The file that stands for a host's network."""
        return Path(f"/proc/{self._shared.pid}/fd/{self._shared.namespace(host)}")

    def command(self, host: int, *words: str) -> list[str]:
        """The command that runs another command on that host."""
        if not 0 <= host < self.hosts:
            raise LabError(f"There is no host {host}: they are 0 to {self.hosts - 1}.")
        return on_host(self.namespace(host), *words)

    def take_down(self) -> None:
        """End it. Programs that still run on a host have no network any more."""
        os.kill(self._shared.pid, signal.SIGTERM)
        self._file.unlink(missing_ok=True)


def _file(name: str) -> Path:
    if not name.isalnum():
        raise LabError(f"{name!r} cannot be a laboratory's name: use letters and digits.")
    return _FOLDER / f"halo-lab-{name}"


def _is_switch(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith("lab-switch-")
    except OSError:
        return False
