"""Numbered datagrams from one host of a laboratory to another, and which of them arrive."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.lab import Counters, Lab, address

PORT = 4321
_PATIENCE_S = 10.0
_SO_RCVBUFFORCE = 33  # beyond the limit for users: the thread that reads may have to wait for a processor


@dataclass
class Wire:
    """A socket on either host; `arrived` are the numbers of the datagrams as they come."""

    sender: socket.socket
    target: tuple[str, int]
    counted: Callable[[], Counters]
    """Of the direction that the datagrams take."""
    arrived: list[int] = field(default_factory=list)
    sent: int = 0

    def send(self, count: int, size: int = 20, every_s: float = 0.0) -> None:
        """Numbered on from the last one, in groups that no socket's buffer is too small for; each has met its fate."""
        before = self.counted().frames
        for number in range(self.sent, self.sent + count):
            self.sender.sendto(number.to_bytes(4, "little") + bytes(size - 4), self.target)
            if every_s or number % 20 == 0:
                time.sleep(every_s or 0.001)
        self.sent += count
        deadline = time.monotonic() + _PATIENCE_S
        while self.counted().frames < before + count and time.monotonic() < deadline:
            time.sleep(0.005)

    def await_arrivals(self, count: int) -> None:
        """Return when so many have arrived, or when no more are to be expected."""
        deadline = time.monotonic() + _PATIENCE_S
        while len(self.arrived) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)


@contextlib.contextmanager
def wire(lab: Lab, source: int, target: int, version: int = 4, port: int = PORT) -> Iterator[Wire]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with lab.inside(source):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with lab.inside(target):
        receiver = socket.socket(family, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
    receiver.bind((address(target, version), port))
    receiver.settimeout(0.05)
    made = Wire(sender, (address(target, version), port), lambda: counted(lab, source, target))
    stop = threading.Event()

    def receive() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                made.arrived.append(int.from_bytes(receiver.recv(2048)[:4], "little"))

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
        sender.close()
        receiver.close()


def counted(lab: Lab, source: int, target: int) -> Counters:
    """The counters of the direction that frames between them take."""
    down, up = lab.counters(source or target)
    return up if source else down


def within(count: int, expected: float, deviation: float) -> bool:
    """Whether a random count is where all but one in millions are."""
    return abs(count - expected) <= 5.5 * deviation + 1
