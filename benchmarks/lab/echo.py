"""What datagrams cost that nobody repairs: one request to each of some workers, one answer from each, in fragments."""

from __future__ import annotations

import math
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from .laboratory import Lab, address

FRAGMENT = 1200
_PORT = 4000
_PATIENCE_S = 1.0


def echo(lab: Lab, request: int, reply: int, rounds: int) -> list[float]:
    """Seconds of each round; one in which a datagram was lost does not count, and the next begins after a second."""
    numbers = [_fragments(request), _fragments(reply)]
    command = [sys.executable, str(Path(__file__).with_name("echo_worker.py"))]
    sizes = [str(x) for pair in numbers for x in pair]
    workers = [
        subprocess.Popen(lab.command(host, *command, address(host), str(_PORT), *sizes), stdin=subprocess.PIPE)
        for host in range(1, lab.hosts)
    ]
    try:
        with lab.inside(0):
            hub = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with hub:
            return _rounds(hub, lab.hosts - 1, numbers, rounds)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _rounds(hub: socket.socket, workers: int, numbers: list[tuple[int, int]], rounds: int) -> list[float]:
    (asked, asked_bytes), (answered, _) = numbers
    hub.settimeout(_PATIENCE_S)
    _await_workers(hub, workers)
    times: list[float] = []
    for number in range(rounds):
        message = number.to_bytes(4, "little") + bytes(asked_bytes - 4)
        start = time.perf_counter()
        for host in range(1, workers + 1):
            for _ in range(asked):
                hub.sendto(message, (address(host), _PORT))
        try:
            missing = workers * answered
            while missing:
                missing -= hub.recv(2048)[:4] == message[:4]
        except TimeoutError:
            continue
        times.append(time.perf_counter() - start)
    return times


def _await_workers(hub: socket.socket, workers: int) -> None:
    """Ask each until it answers: an empty datagram is answered with another."""
    hub.settimeout(0.1)
    for host in range(1, workers + 1):
        while True:
            hub.sendto(b"", (address(host), _PORT))
            try:
                if hub.recvfrom(2048)[1][0] == address(host):
                    break
            except TimeoutError:
                continue
    hub.settimeout(_PATIENCE_S)


def _fragments(size: int) -> tuple[int, int]:
    count = math.ceil(size / FRAGMENT)
    return count, math.ceil(size / count)


def line(times: list[float], rounds: int) -> str:
    """The times for people."""
    ordered = sorted(times)
    p95 = ordered[int(0.95 * len(ordered))]
    return (
        f"echo: p50 {1e3 * statistics.median(ordered):.3f} ms, p95 {1e3 * p95:.3f}, max {1e3 * ordered[-1]:.3f}; "
        f"{rounds - len(times)} of {rounds} rounds lost a datagram"
    )
