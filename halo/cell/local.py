"""Workers on this machine, as processes that end with the hub."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import halo
from halo.cell.address import Address
from halo.cell.process import Child
from halo.errors import CellError

# -P, and our own place in PYTHONPATH below: the very HALO that runs here, whatever directory we are in.
WORKER_COMMAND = (sys.executable, "-P", "-m", "halo.cli", "worker")
_PACKAGES = str(Path(halo.__file__).absolute().parent.parent)
_PATIENCE_S = 1.5
Place = Callable[[int, Sequence[str]], Sequence[str]]
"""Makes of the command of the worker with that number the one that starts it elsewhere."""


class LocalWorkers:
    """`halo worker` processes; their standard input is the pipe whose end tells them that the hub is gone."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}

    def start(
        self,
        count: int,
        *,
        address: Address,
        cell: str,
        model: str,
        threads: int,
        pace_us: int = 0,
        pace_group_us: int = 0,
        command: Sequence[str] = WORKER_COMMAND,
        place: Place = lambda number, command: command,
    ) -> None:
        """Start `worker-1` to `worker-<count>`."""
        path = os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH")]))
        for number in range(1, count + 1):
            name = f"worker-{number}"
            where = ["--broker", str(address), "--cell", cell, "--name", name]
            paces = ["--pace", str(pace_us), "--pace-group", str(pace_group_us)]
            what = ["-m", model, "-t", str(threads), *paces, "--exit-with-parent"]
            placed = place(number, [*command, *where, *what])
            self._children[name] = Child(placed, pipe=True, env={"PYTHONPATH": path})

    @property
    def pids(self) -> list[int]:
        """Of those that still run."""
        return [child.pid for child in self._children.values() if child.exit_code is None]

    def check(self) -> None:
        """Raise a CellError that quotes the last words of a worker that has ended."""
        for name, child in self._children.items():
            if child.exit_code is not None:
                raise CellError(
                    f"The local worker {name!r} ended at once (exit code {child.exit_code}): "
                    f"{child.last_words() or 'it said nothing'}"
                )

    async def stop(self) -> None:
        """End all of them: politely first."""
        for child in self._children.values():
            child.terminate()
        await asyncio.gather(*(child.gone(_PATIENCE_S) for child in self._children.values()))
        self._children.clear()
