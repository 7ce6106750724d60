"""A broker for one machine: mosquitto where it is installed, else amqtt in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from halo.cell.address import Address
from halo.cell.loop import LoopThread
from halo.cell.process import Child
from halo.errors import BrokerError
from halo.files import nameless

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")  # Debian puts mosquitto where a user's PATH does not look
_START_S = 5.0
_STOP_S = 0.5
_LOOPBACK = "127.0.0.1"


class LocalBroker(Protocol):
    """A broker that this process started on the loopback interface."""

    @property
    def address(self) -> Address: ...
    async def stop(self) -> None: ...


async def start_broker(log: Callable[[str], None]) -> LocalBroker:
    """Start one on a free port. The calling thread must outlive the broker (see `_spawn_mosquitto`)."""
    if program := find_mosquitto():
        return await Mosquitto.start(program)
    log("mosquitto is not installed: using the slower built-in broker (sudo apt install mosquitto)")
    return await Amqtt.start()


def find_mosquitto() -> str | None:
    """The path of the mosquitto program, looked for in the system directories too."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))


class Mosquitto:
    """A mosquitto process that ends with this one, even when this one is killed."""

    def __init__(self, child: Child, address: Address) -> None:
        self.address = address
        self.child = child

    @classmethod
    async def start(cls, program: str, host: str = _LOOPBACK) -> Mosquitto:
        """Three attempts, because another program can take the free port before mosquitto does."""
        for _ in range(3):
            port = free_port(host)
            child = _spawn_mosquitto(program, port, host)
            if await _listens(host, port, child):
                return cls(child, Address(host, port))
            words = child.last_words(1)
            child.terminate()
            await child.gone(1)
        raise BrokerError(
            f"mosquitto ({program}) does not start: {words or 'it said nothing'}. "
            "Try it by hand, or name a running broker: --broker mqtt://host."
        )

    async def stop(self) -> None:
        self.child.terminate()
        await self.child.gone(1)


def _spawn_mosquitto(program: str, port: int, host: str = _LOOPBACK) -> Child:
    settings = [
        f"listener {port} {host}",
        "allow_anonymous true",
        "persistence false",
        "set_tcp_nodelay true",
        "log_dest stderr",
        "log_type error",
        "log_timestamp false",
    ]
    if os.geteuid() == 0:
        settings.append("user root")  # a change of user would also clear the signal below
    # The kernel sends the signal when the *thread* that spawned it ends, which is why the caller's must live.
    tie = [setpriv, "--pdeathsig", "TERM"] if (setpriv := shutil.which("setpriv")) else []
    with nameless() as conf:  # nothing to clean up, whatever happens
        conf.write(("\n".join(settings) + "\n").encode())
        conf.flush()
        fd = conf.fileno()
        return Child([*tie, program, "-c", f"/proc/self/fd/{fd}"], pass_fds=[fd])


class Amqtt:
    """amqtt in a thread with a loop of its own; it knows MQTT 3.1.1 only."""

    def __init__(self, thread: LoopThread, broker: _AmqttBroker, address: Address) -> None:
        self.address = address
        self._thread = thread
        self._broker = broker

    @classmethod
    async def start(cls) -> Amqtt:
        try:
            module = import_module("amqtt.broker")
        except ImportError:
            raise BrokerError(
                "There is no MQTT broker to start: neither mosquitto nor the package amqtt is installed. "
                "Try 'sudo apt install mosquitto', or name a running broker: --broker mqtt://host."
            ) from None
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        thread = LoopThread("halo-broker")
        port = free_port()
        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"{_LOOPBACK}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }

        async def begin() -> _AmqttBroker:
            broker: _AmqttBroker = module.Broker(config)
            broker._subscriptions = _Snapshots()
            broker._retained_messages = _Snapshots()
            await broker.start()
            return broker

        try:
            broker = await asyncio.wait_for(asyncio.wrap_future(thread.submit(begin())), _START_S)
        except Exception as error:
            thread.close()
            raise BrokerError(
                f"The built-in broker does not start: {error}. Try 'sudo apt install mosquitto'."
            ) from error
        return cls(thread, broker, Address(_LOOPBACK, port))

    async def stop(self) -> None:
        with contextlib.suppress(Exception):  # it ends with its thread anyway, and sometimes only so
            await asyncio.wait_for(asyncio.wrap_future(self._thread.submit(self._broker.shutdown())), _STOP_S)
        self._thread.close()


class _Snapshots(dict[Any, Any]):
    """A dictionary that may change while it is walked through.

    amqtt walks through its own while other clients subscribe; the error ends the session of whoever connects
    just then, and loses messages.
    """

    def __iter__(self) -> Iterator[Any]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:
        return list(super().items())


class _AmqttBroker(Protocol):
    _subscriptions: dict[Any, Any]
    _retained_messages: dict[Any, Any]

    async def start(self) -> None: ...
    async def shutdown(self) -> None: ...


def free_port(host: str = _LOOPBACK) -> int:
    """A TCP port of that address of this machine that nobody uses now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def _listens(host: str, port: int, child: Child) -> bool:
    """Whether the child does; another program may have taken the port meanwhile, and the child be about to say so."""
    deadline = time.monotonic() + _START_S
    while child.exit_code is None and time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        if _holds(child.pid, port):
            return child.exit_code is None
        await asyncio.sleep(0.01)
    return False


def _holds(pid: int, port: int) -> bool:
    """Whether a listening socket at this port is the process's; True where the system does not tell."""
    process = Path("/proc") / str(pid)
    try:
        table = [line.split() for name in ("tcp", "tcp6") for line in (process / "net" / name).read_text().splitlines()]
        listening = {f"socket:[{row[9]}]" for row in table if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
        return not listening.isdisjoint(str(fd.readlink()) for fd in (process / "fd").iterdir())
    except FileNotFoundError:  # of a process that is just ending, or of a system without /proc
        return not Path("/proc/self/net/tcp").exists()
    except (OSError, IndexError):
        return True
