"""Real brokers, real processes and a fake native module for the tests of the control plane."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from fakes import NATIVE, Model  # noqa: E402

from halo.cell import Cell  # noqa: E402
from halo.cell.broker import Amqtt, Mosquitto, find_mosquitto  # noqa: E402
from halo.cell.loop import LoopThread  # noqa: E402
from halo.cell.topics import Topics  # noqa: E402
from halo.cell.view import look  # noqa: E402

FAKE_WORKER = [sys.executable, str(HERE / "fake_worker.py")]


@pytest.fixture
def loop():
    """A loop in a thread, as the hub has one."""
    thread = LoopThread("test")
    yield thread
    thread.close()


@pytest.fixture(params=["mosquitto"])
def broker(request, loop):
    """A running broker; parametrize indirectly with "amqtt" for the built-in one."""
    if request.param == "mosquitto":
        if (program := find_mosquitto()) is None:
            pytest.skip("mosquitto is not installed")
        started = loop.run(Mosquitto.start(program))
    else:
        started = loop.run(Amqtt.start())
    yield started
    loop.run(started.stop())


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_text("a model")
    return path


@pytest.fixture
def lines():
    """What the hub logged."""
    return []


@pytest.fixture
def open_cell(model, lines):
    """Opens hubs with fake engines, and closes them."""
    opened = []

    def open_(**options):
        options = {
            "n_ctx": 64,
            "native": NATIVE,
            "worker_command": FAKE_WORKER,
            "log": lines.append,
        } | options
        opened.append(Cell.open(Model(model), **options))
        return opened[-1]

    yield open_
    for cell in opened:
        cell.close()


@pytest.fixture
def start_worker(broker, model, tmp_path):
    """Starts worker processes in the broker's cell; `.log` is the file with what they say."""
    started = []

    def start(name, *arguments, model=model, url=None):
        log = tmp_path / f"{name}-{len(started)}.log"
        command = [
            *FAKE_WORKER,
            "--broker",
            url or str(broker.address),
            "--name",
            name,
            "-m",
            str(model),
            *arguments,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stderr=output, stdin=subprocess.DEVNULL)
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def view(loop, broker):
    """Looks at the cell "halo" from outside."""
    return lambda: loop.run(look(broker.address, Topics("halo"), 1.2))


def eventually(condition, within_s=5.0):
    """Wait until the condition holds, and return its value."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


def alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid):
    """The processes that a process has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [int(entry.name)] if parent == pid else []
    return found
