"""Real brokers, real processes and a fake native module for the tests of the control plane."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cell_helpers import FAKE_WORKER, HERE, Proxy, Remembering
from fake_native import NATIVE, Model

from halo.cell import Cell, connection
from halo.cell.broker import Amqtt, Mosquitto, find_mosquitto
from halo.cell.connection import Connection
from halo.cell.loop import LoopThread
from halo.cell.topics import Topics
from halo.cell.view import look

HUB = [sys.executable, str(HERE / "hub_process.py")]


@pytest.fixture
def loop():
    """A loop in a thread, as the hub has one."""
    thread = LoopThread("test")
    yield thread
    thread.close()


@pytest.fixture(autouse=True)
def no_broker_known(monkeypatch):
    """A port may be given again, to a broker of another kind than a test before has found there."""
    monkeypatch.setattr(connection, "_OLDER", set())


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
def remembering(tmp_path):
    """A running broker that loses its power."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    folder = tmp_path / "broker"
    folder.mkdir()
    started = Remembering(folder)
    yield started
    started.loses_power()


@pytest.fixture
def proxy(loop, broker):
    """Stands before the broker."""
    made = Proxy(loop, broker)
    yield made
    made.close()


@pytest.fixture
def attempts(monkeypatch):
    """Grows by one whenever this process tries to reach a broker."""
    made = []
    knock = Connection._knock

    async def watched(connection):
        made.append(connection.address)
        await knock(connection)

    monkeypatch.setattr(Connection, "_knock", watched)
    return made


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
        opened.append(Cell.open(options.pop("model", None) or Model(model), **options))
        return opened[-1]

    yield open_
    for cell in opened:
        cell.close()


@pytest.fixture
def launch(broker, tmp_path):
    """Starts worker processes, by the command given, in the broker's cell; `.log` is the file with what they say."""
    started = []

    def launch_(command, name, *arguments, model, url=None):
        log = tmp_path / f"{name}-{len(started)}.log"
        where = ["--broker", str(url or broker.address), "--name", name, "-m", str(model)]
        with log.open("wb") as output:
            process = subprocess.Popen([*command, *where, *arguments], stderr=output, stdin=subprocess.DEVNULL)
        process.log = log
        started.append(process)
        return process

    yield launch_
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def start_worker(launch, model):
    """Starts workers with the fake native module."""

    def start(name, *arguments, model=model, url=None):
        return launch(FAKE_WORKER, name, *arguments, model=model, url=url)

    return start


@pytest.fixture
def view(loop, broker):
    """Looks at the cell "halo" from outside."""
    return lambda: loop.run(look(broker.address, Topics("halo"), 1.2))


@pytest.fixture
def start_hub(model):
    """Starts hub processes (see hub_process.py)."""
    started = []

    def start(how, broker="-"):
        process = subprocess.Popen(
            [*HUB, str(model), how, broker], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
