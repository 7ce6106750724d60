"""A worker behind a real network interface: the same bits as from one process, in another network namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from halo import _native
from halo.cell import Cell
from halo.cell.broker import find_mosquitto
from halo.model import open_model
from tests.conftest import TinyModel

needs = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not find_mosquitto(), reason="needs root, iproute2 and mosquitto"
)


@dataclass(frozen=True)
class Link:
    """A namespace and the address of this side of the cable to it."""

    namespace: str
    here: str

    def command(self, *args: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *args]


@pytest.fixture
def link() -> Iterator[Link]:
    tag = uuid.uuid4().hex[:6]
    link = Link(f"halo-test-{tag}", "10.97.3.1")
    cable = ["ip", "link", "add", f"hv{tag}", "type", "veth", "peer", "name", "eth0", "netns", link.namespace]
    if subprocess.run(["ip", "netns", "add", link.namespace], capture_output=True).returncode != 0:
        pytest.skip("network namespaces cannot be made here")
    try:
        subprocess.run(cable, check=True)
        for command in (
            ["ip", "addr", "add", f"{link.here}/30", "dev", f"hv{tag}"],
            ["ip", "link", "set", f"hv{tag}", "up"],
            ["ip", "-n", link.namespace, "addr", "add", "10.97.3.2/30", "dev", "eth0"],
            ["ip", "-n", link.namespace, "link", "set", "eth0", "up"],
        ):
            subprocess.run(command, check=True)
        yield link
    finally:
        subprocess.run(["ip", "netns", "del", link.namespace], check=False)


@pytest.fixture
def broker(link: Link, tmp_path: Path) -> Iterator[str]:
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener 18830 {link.here}\nallow_anonymous true\nuser root\n")
    program = find_mosquitto()
    assert program is not None
    with subprocess.Popen([program, "-c", str(config)]) as process:
        yield f"mqtt://{link.here}:18830"
        process.terminate()


@needs
def test_logits_are_the_same_bits_with_a_worker_in_another_namespace(
    link: Link, broker: str, tiny_model: TinyModel
) -> None:
    path = tiny_model("Q8_0")
    model = open_model(path)
    tokens = np.arange(10, 60, dtype=np.int32)
    alone = _native.Engine(model.native, 256).forward(0, tokens, True)
    worker = link.command(
        sys.executable, "-m", "halo.cli", "worker", "--broker", broker, "--cell", "ns", "-m", str(path)
    )
    with subprocess.Popen(worker, stderr=subprocess.PIPE, text=True) as process:
        try:
            with Cell.open(model, broker=broker, cell="ns", workers=1, n_ctx=256, plan="even") as cell:
                shared = np.concatenate([cell.engine.forward(0, part, True) for part in np.split(tokens, [20, 21])])
                report = cell.report()
        finally:
            process.terminate()
        assert process.stderr is not None
        assert process.stderr.read().count("whoever controls it") == 1  # the broker is open, and in a network
    assert np.array_equal(shared, alone)
    assert all(device["group_results"] > 0 for device in report["devices"])
