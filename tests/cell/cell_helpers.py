"""What the tests of the control plane share: looking at processes, at a broker from outside, and a bad way to it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiomqtt

from halo.cell import broker as broker_module
from halo.cell.address import Address

HERE = Path(__file__).parent
FAKE_WORKER = [sys.executable, str(HERE / "fake_worker.py")]
HANG_S = 45.0
"""For what has to happen, but not how soon: a test that waits for longer hangs."""


def eventually(condition):
    """Wait until the condition holds, and return its value."""
    deadline = time.monotonic() + HANG_S
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


def peak_bytes(pid):
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1])


def children(pid):
    """The processes that a process has started, but for the one that Python keeps once it has had processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"multiprocessing.resource_tracker" not in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def listens(port):
    """Whether something takes connections at this port of this machine."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def publish(loop, address, topic, payload, retain=False):
    async def work():
        async with aiomqtt.Client(address.host, address.port) as client:
            await client.publish(topic, payload, 1, retain)

    loop.run(work())


def retain(loop, address, topic, payload):
    publish(loop, address, topic, payload, retain=True)


def read_retained(loop, address):
    async def work():
        found = {}
        async with aiomqtt.Client(address.host, address.port) as client:
            await client.subscribe("halo/#", 1)
            try:
                async with asyncio.timeout(0.4):
                    async for message in client.messages:
                        if message.retain:
                            found[message.topic.value] = message.payload
            except TimeoutError:
                return found

    return loop.run(work())


def restart(loop, broker):
    """Stop the broker and start another at the same port."""
    port = broker.address.port
    loop.run(broker.stop())
    time.sleep(0.5)
    broker.child = loop.call(lambda: broker_module._spawn_mosquitto(broker_module.find_mosquitto(), port))


class Remembering:
    """A mosquitto that keeps what it retains in a folder; what it has not saved is lost with its power."""

    def __init__(self, folder):
        self._folder = folder
        self.address = Address("127.0.0.1", broker_module.free_port())
        self.start()

    def start(self):
        port, conf = self.address.port, self._folder / "conf"
        where = f"persistence true\npersistence_location {self._folder}/\n"
        conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{where}user root\nlog_dest none\n")
        self._process = subprocess.Popen([broker_module.find_mosquitto(), "-c", conf], stderr=subprocess.DEVNULL)
        eventually(lambda: listens(port))

    def save(self, wanted):
        """Return when this text is among what it has saved."""
        file = self._folder / "mosquitto.db"
        self._process.send_signal(signal.SIGUSR1)
        eventually(lambda: file.exists() and wanted in file.read_bytes())

    def loses_power(self):
        self._process.kill()
        self._process.wait()


class Proxy:
    """Stands before a broker and can stop forwarding a connection, as a network does that loses all of it."""

    def __init__(self, loop, broker):
        self._loop = loop
        self._broker = broker.address
        self._stalled = lambda client: False
        self._server = loop.run(self._start())
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
        self.clients = []

    def stall(self, which: Callable[[str], bool]) -> None:
        """Forward nothing of the connections whose client id `which` is true of."""
        self._stalled = which

    async def _start(self):
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_connection(self._broker.host, self._broker.port)
        first = await reader.read(65536)
        client = next((str(word) for word in first.decode("latin1").split("\0") if "halo-" in word), "")
        client = client[client.find("halo-") :]
        self.clients.append(client)
        back.write(first)
        await asyncio.wait(
            [asyncio.ensure_future(self._pump(client, *pair)) for pair in ((reader, back), (there, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        back.close()
        writer.close()

    async def _pump(self, client, source, sink):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                while self._stalled(client):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                sink.write(data)

    def close(self):
        self._loop.call(self._server.close)
