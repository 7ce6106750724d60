"""The processes that a stage starts, kills, freezes and starts again: workers, and the broker."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from benchmarks.lab import Lab, LabError, address
from halo.cell.broker import find_mosquitto

_ROOT = Path(__file__).resolve().parent.parent.parent
_PORT = 1883
_START_S = 5.0
_LEAVE_S = 3.0


class Player:
    """A process on a host of the laboratory. It ends with the thread that starts it (see `Stage.director`)."""

    def __init__(self, lab: Lab, host: int, *words: str) -> None:
        tie = [setpriv, "--pdeathsig", "KILL"] if (setpriv := shutil.which("setpriv")) else []
        self._command = [*tie, *lab.command(host, *words)]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the player)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, env=environment
        )

    def kill(self) -> None:
        """At once, and without a word to anybody."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def signal(self, number: int) -> None:
        if self.runs and self._process is not None:
            os.kill(self._process.pid, number)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def leave(self) -> None:
        """End it, politely where it listens."""
        if self._process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


class WorkerPlayer(Player):
    """`worker-<host>`, a process of paced_worker.py on that host."""

    def __init__(self, lab: Lab, host: int, model: Path, pace: tuple[int, int]) -> None:
        self.name = f"worker-{host}"
        self.pace = pace
        script = str(Path(__file__).with_name("paced_worker.py"))
        where = [f"mqtt://{address(0)}:{_PORT}", self.name]
        super().__init__(lab, host, sys.executable, script, *where, str(model), *map(str, pace))

    def slow_down(self, factor: float) -> None:
        """Take so many times its pace from now on; 1: its pace."""
        self.tell(" ".join(str(round(factor * us)) for us in self.pace))


class BrokerPlayer(Player):
    """mosquitto on host 0; started again, it has forgotten everything."""

    def __init__(self, lab: Lab) -> None:
        program = find_mosquitto()
        if program is None:
            raise LabError("The scenarios need mosquitto: sudo apt install mosquitto.")
        self._lab = lab
        self._conf = tempfile.NamedTemporaryFile("w", suffix=".conf")  # noqa: SIM115 (it lives as long as the player)
        lines = [f"listener {_PORT} {address(0)}", "allow_anonymous true", "persistence false", "user root"]
        self._conf.write("\n".join([*lines, "set_tcp_nodelay true", "log_dest stderr", "log_type error"]) + "\n")
        self._conf.flush()
        super().__init__(lab, 0, program, "-c", self._conf.name)

    @property
    def url(self) -> str:
        return f"mqtt://{address(0)}:{_PORT}"

    def start(self) -> None:
        """Start it, and return when it listens."""
        super().start()
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            try:
                with self._lab.inside(0):
                    socket.create_connection((address(0), _PORT), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise LabError(f"mosquitto does not start: {self.last_words()}.")

    def leave(self) -> None:
        super().leave()
        self._conf.close()
