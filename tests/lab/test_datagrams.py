"""Datagrams over bad networks: `fixed` partials give the same bits, whatever happens to packets and devices."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.lab import Conditions, Lab, address
from benchmarks.lab.namespace import tool
from halo import _native
from halo.cell import Cell
from halo.cell.broker import Mosquitto, find_mosquitto
from halo.cell.loop import LoopThread
from halo.errors import CellError
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.lab.conftest import MakeLab
from tests.native.in_process import Floats, alone
from tests.wire.datagram_cell import DatagramCell, eventually

pytestmark = [
    pytest.mark.usefixtures("can_make"),
    pytest.mark.skipif(_native.sealing_unavailable() is not None, reason=str(_native.sealing_unavailable())),
]
TOKENS = np.random.default_rng(6).integers(3, 320, 60).astype(np.int32)
Tokens = NDArray[np.int32]
BAD = {"delay_us": 200, "duplicate": 0.1, "reorder": 0.1}


@pytest.fixture(scope="module")
def path(tiny_model: TinyModel) -> Path:
    return tiny_model("Q8_0")


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return open_model(path)


@pytest.fixture(scope="module")
def expected(model: Model) -> Floats:
    return alone(model, TOKENS)


def in_lab(model: Model, lab: Lab, workers: int, version: int = 4, only: bool = True) -> DatagramCell:
    """Each device on a host of its own, all of them in this process."""
    return DatagramCell(
        model,
        workers,
        place=lab.inside,
        addresses=lambda number, port: [(address(number, version), port)],
        only=only,
    )


def parts(tokens: Tokens = TOKENS) -> list[Tokens]:
    """A prompt, and the tokens after it one by one."""
    return [tokens[:36], *np.split(tokens[36:], len(tokens) - 36)]


def generate(forward: Callable[[int, Tokens, bool], Floats], meanwhile: Callable[[int], object] = id) -> Floats:
    """Logits of all positions; `meanwhile(i)` is called before part i."""
    out = []
    for i, part in enumerate(parts()):
        meanwhile(i)
        out.append(forward(0, part, True))
    return np.concatenate(out)


@pytest.mark.parametrize("workers", range(1, 6))
def test_bits_are_the_same_whatever_is_lost_and_whoever_computes(
    make_lab: MakeLab, model: Model, expected: Floats, workers: int
) -> None:
    lab = make_lab(workers + 1, Conditions(), seed=workers)
    cell = in_lab(model, lab, workers)
    assert cell.links_stand()
    for loss in (0.0, 0.05, 0.2):
        lab.set(Conditions(loss=loss, **BAD))
        cell.engine.set_plan("random", seed=workers)
        cell.engine.truncate(0, 0)
        assert np.array_equal(generate(cell.engine.forward), expected)
    assert lab.total().lost > 0 < lab.total().reordered
    assert cell.posted == 0


def test_bursts_and_fades_change_no_bit(make_lab: MakeLab, model: Model, expected: Floats) -> None:
    lab = make_lab(3, Conditions(), seed=1)
    cell = in_lab(model, lab, 2)
    assert cell.links_stand()
    for conditions in (Conditions(loss=0.05, burst=4, delay_us=200), Conditions(loss=0.05, fade_ms=20, delay_us=200)):
        lab.set(conditions)
        cell.engine.truncate(0, 0)
        assert np.array_equal(generate(cell.engine.forward), expected)


def test_a_network_with_ipv6_only(make_lab: MakeLab, model: Model, expected: Floats) -> None:
    lab = make_lab(2, Conditions(loss=0.05, **BAD), seed=1)
    for host in (0, 1):
        with lab.inside(host):
            tool("ip", "-4", "addr", "flush", "dev", "eth0")
    cell = in_lab(model, lab, 1, version=6)
    assert cell.links_stand()
    assert np.array_equal(generate(cell.engine.forward), expected)
    assert cell.link(0)["address"].startswith("[fd91::2]:")


def test_a_path_with_a_small_mtu_is_slower_and_not_dead(make_lab: MakeLab, model: Model, expected: Floats) -> None:
    lab = make_lab(2, Conditions(), seed=1)
    cell = in_lab(model, lab, 1)
    assert cell.links_stand()
    for host in (0, 1):
        with lab.inside(host):
            tool("ip", "link", "set", "eth0", "mtu", "600")
    assert np.array_equal(generate(cell.engine.forward), expected)
    assert cell.posted == 0


def test_a_receive_buffer_that_overflows_costs_repairs_only(make_lab: MakeLab, model: Model, expected: Floats) -> None:
    lab = make_lab(2, Conditions(), seed=1)
    cell = in_lab(model, lab, 1)
    assert cell.links_stand()
    shrink_buffers([cell.ends[0].port])
    cell.relay.probe(200_000, 1000, 5)
    assert cell.link(0)["packets"]["repairs"] > 0
    assert np.array_equal(generate(cell.engine.forward), expected)


def shrink_buffers(ports: Sequence[int]) -> None:
    """Of this process's sockets at these ports, to as little as the system allows."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as found:
            if found.type == socket.SOCK_DGRAM and found.getsockname()[1] in ports:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


# ---- what happens to devices in the middle of a text


def move(lab: Lab, host: int) -> None:
    """Another address, as after a renewed lease of the network."""
    with lab.inside(host):
        tool("ip", "addr", "del", f"{address(host)}/24", "dev", "eth0")
        tool("ip", "addr", "add", "10.91.0.77/24", "dev", "eth0")


def unplug(lab: Lab, host: int, seconds: float) -> None:
    with lab.inside(host):
        tool("ip", "link", "set", "eth0", "down")
        time.sleep(seconds)
        tool("ip", "link", "set", "eth0", "up")


@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize("only", [True, False])
def test_an_address_may_change_in_the_middle(
    make_lab: MakeLab, model: Model, expected: Floats, host: int, only: bool
) -> None:
    lab = make_lab(2, Conditions(), seed=1)
    cell = in_lab(model, lab, 1, only=only)
    assert cell.links_stand()
    logits = generate(cell.engine.forward, lambda i: move(lab, host) if i == 10 else None)
    assert np.array_equal(logits, expected)
    assert cell.links_stand()
    where = (cell.link(0) if host == 1 else cell.ends[0].link())["address"]
    assert where.startswith("10.91.0.77:")


@pytest.mark.parametrize("host", [0, 1])
def test_an_interface_may_go_down_and_come_up(make_lab: MakeLab, model: Model, expected: Floats, host: int) -> None:
    lab = make_lab(2, Conditions(), seed=1)
    cell = in_lab(model, lab, 1)
    assert cell.links_stand()
    threads = []

    def meanwhile(part: int) -> None:
        if part == 10:
            threads.append(threading.Thread(target=unplug, args=(lab, host, 1.5)))
            threads[-1].start()

    logits = generate(cell.engine.forward, meanwhile)
    for thread in threads:
        thread.join()
    assert np.array_equal(logits, expected)
    assert cell.links_stand()


_DROPS_UDP = (  # classic BPF: of IPv4 and of IPv6, behind an Ethernet header
    "8,40 0 0 12,21 0 1 2048,48 0 0 23,21 2 0 17,48 0 0 20,21 0 1 17,6 0 0 2,6 0 0 4294967295"
)


@contextlib.contextmanager
def firewall(lab: Lab, host: int) -> Iterator[None]:
    """Whatever UDP comes to that host is dropped without a word."""
    with lab.inside(host):
        tool("tc", "qdisc", "add", "dev", "eth0", "clsact")
        tool("tc", "filter", "add", "dev", "eth0", "ingress", "bpf", "da", "bytecode", _DROPS_UDP)
    try:
        yield
    finally:
        with lab.inside(host):
            tool("tc", "qdisc", "del", "dev", "eth0", "clsact")


def test_where_udp_is_blocked_mqtt_carries_on_and_back(make_lab: MakeLab, model: Model, expected: Floats) -> None:
    lab = make_lab(3, Conditions(), seed=1)
    cell = in_lab(model, lab, 2, only=False)
    assert cell.links_stand()
    with firewall(lab, 1):
        assert np.array_equal(generate(cell.engine.forward), expected)
        assert [cell.link(worker)["alive"] for worker in (0, 1)] == [False, True]
    assert cell.engine.stats()["fall_backs"] == 1 <= cell.posted
    assert cell.links_stand()
    posted = cell.posted
    cell.engine.truncate(0, 0)
    assert np.array_equal(generate(cell.engine.forward), expected)
    assert cell.posted == posted


# ---- real processes, over a real broker


@pytest.fixture
def lab_broker(make_lab: MakeLab) -> Iterator[tuple[Lab, str]]:
    if (program := find_mosquitto()) is None:
        pytest.skip("needs mosquitto")
    lab = make_lab(2, Conditions(delay_us=100), seed=1)
    with lab.inside(0):
        loop = LoopThread("test-broker")
        broker = loop.run(Mosquitto.start(program, address(0)))
        try:
            yield lab, str(broker.address)
        finally:
            loop.run(broker.stop())
            loop.close()


@contextlib.contextmanager
def worker_process(lab: Lab, broker: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "halo.cli", "worker", "--broker", broker, "--name", "a", "-m", str(path)]
    with subprocess.Popen(lab.command(1, *command), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


def test_a_firewall_is_named_where_only_datagrams_are_wanted(
    lab_broker: tuple[Lab, str], model: Model, path: Path, expected: Floats
) -> None:
    lab, broker = lab_broker
    said: list[str] = []
    with worker_process(lab, broker, path):
        with firewall(lab, 1):
            with pytest.raises(CellError, match=r"a: datagrams are not answered: a firewall.*UDP port \d+"):
                Cell.open(model, broker=broker, workers=1, n_ctx=64, transport="udp", log=said.append)
            with Cell.open(model, broker=broker, workers=1, n_ctx=64, log=said.append) as cell:
                assert np.array_equal(generate(cell.engine.forward), expected)
                assert cell.report()["devices"][1]["link"]["transport"] == "mqtt"
                assert any("MQTT where datagrams do not reach" in line for line in said)
        with Cell.open(model, broker=broker, workers=1, n_ctx=64, transport="udp", log=said.append) as cell:
            assert np.array_equal(generate(cell.engine.forward), expected)
            assert cell.report()["devices"][1]["link"]["transport"] == "udp"


def test_a_worker_may_sleep_for_a_second(
    lab_broker: tuple[Lab, str], model: Model, path: Path, expected: Floats
) -> None:
    lab, broker = lab_broker
    with worker_process(lab, broker, path) as process:

        def meanwhile(part: int) -> None:
            if part == 10:
                process.send_signal(signal.SIGSTOP)
                threading.Timer(1.0, process.send_signal, [signal.SIGCONT]).start()

        with Cell.open(model, broker=broker, workers=1, n_ctx=64, log=lambda line: None) as cell:
            assert np.array_equal(generate(cell.engine.forward, meanwhile), expected)
            assert eventually(lambda: cell.report()["devices"][1]["link"]["transport"] == "udp")
