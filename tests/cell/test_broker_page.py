"""docs/broker.md sets up a broker with TLS, a password and an access list: here its very commands are run."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cell_helpers import eventually, listens

from halo.cell.address import Address
from halo.cell.broker import find_mosquitto, free_port
from halo.cell.connection import Connection
from halo.cell.view import running
from halo.errors import BrokerError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "broker.md"


def commands(folder: Path, port: int) -> list[str]:
    """The blocks of the page, for another folder, port and host, and without root."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    places = {
        "/etc/mosquitto": str(folder / "mosquitto"),
        "/usr/local/share/ca-certificates": str(folder / "authorities"),
        "8883": str(port),
        "pi1": "localhost",
        "-o mosquitto": f"-o {getpass.getuser()}",
        "sudo ": "",
    }
    for place, other in places.items():
        blocks = [block.replace(place, other) for block in blocks]
    return blocks


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """The broker of the page; `.url` is what its last command prints for the devices."""
    if (program := find_mosquitto()) is None or shutil.which("openssl") is None:
        pytest.skip("needs mosquitto and openssl")
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    for name in ("mosquitto/conf.d", "authorities", "bin"):
        (folder / name).mkdir(parents=True)
    # As Debian's mosquitto.conf, which includes that folder.
    main = folder / "mosquitto.conf"
    main.write_text(f"user {getpass.getuser()}\nlog_dest stderr\ninclude_dir {folder}/mosquitto/conf.d\n")
    for name, line in {
        "systemctl": f"setsid {shlex.quote(program)} -c {main} > {folder}/log 2>&1 & echo $! > {folder}/pid",
        "update-ca-certificates": "true",
        "halo": f"{shlex.quote(sys.executable)} -m halo.cli " + '"$@"',
    }.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    at_broker, at_device = commands(folder, port)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", at_broker], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    url = said.removeprefix("export HALO_BROKER=")
    eventually(lambda: listens(port) or not (folder / "pid").exists())
    trusted = {"SSL_CERT_FILE": str(folder / "authorities" / "halo-cell.crt"), "PATH": path}
    try:
        yield SimpleNamespace(
            url=url,
            port=port,
            folder=folder,
            at_device=at_device.replace("export HALO_BROKER=mqtts://halo:PASSWORD@localhost", said),
            environment=trusted,
        )
    finally:
        os.kill(int((folder / "pid").read_text()), signal.SIGTERM)


@pytest.fixture
def url(secured, monkeypatch):
    """The environment of a device of that page."""
    subprocess.run(["cp", secured.folder / "ca.crt", secured.environment["SSL_CERT_FILE"]], check=True)
    for name, value in secured.environment.items():
        monkeypatch.setenv(name, value)
    return f"{secured.url}:{secured.port}"


def test_hub_and_worker_meet_at_the_broker_of_the_page(open_cell, start_worker, url, loop, lines):
    start_worker("a", url=url)
    cell = open_cell(broker=url, workers=1)
    cell.engine.forward(0, np.zeros(3, np.int32))
    assert cell.report()["workers"] == 1
    assert not [line for line in lines if "without TLS" in line]


def test_they_find_it_again_when_it_is_restarted(open_cell, start_worker, secured, url, lines):
    worker = start_worker("a", url=url)
    cell = open_cell(broker=url, workers=1)
    os.kill(int((secured.folder / "pid").read_text()), signal.SIGTERM)
    eventually(lambda: any("lost the broker" in line for line in lines))
    subprocess.run(["systemctl", "restart", "mosquitto"], check=True)
    eventually(lambda: "connected to the broker" in worker.log.read_text() and "connected to the broker" in lines[-1])
    before = cell.report()["devices"][1]["group_results"]

    def is_used():
        cell.engine.forward(0, np.zeros(1, np.int32))
        return cell.report()["devices"][1]["group_results"] > before

    eventually(is_used)


def test_a_device_that_did_what_the_page_says_finds_the_broker_good(secured, url):
    port = f"@localhost:{secured.port}"
    block = secured.at_device.replace("@localhost", port).replace("halo doctor", "halo doctor --json")
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run(
        ["bash", "-uc", block],
        cwd=secured.folder,
        env=environment | secured.environment,
        capture_output=True,
        text=True,
    )
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "mosquitto version" in found["broker"]["measured"]
    assert found["broker-nagle"]["status"] == found["broker-security"]["status"] == "ok"


@pytest.mark.parametrize("login", ["", "halo:wrong@", "other:wrong@"])
def test_nobody_else_is_let_in(url, loop, login):
    address = Address.parse(f"mqtts://{login}localhost:{url.rpartition(':')[2]}")

    async def connect():
        connection = Connection(address, "stranger", print)
        async with running(connection.run()):
            await connection.wait_up()

    with pytest.raises(BrokerError, match="refused the login"):
        loop.run(connect())


def test_the_user_reads_and_writes_halos_topics_and_nothing_else(url, loop):
    address = Address.parse(url)
    heard = []

    async def work():
        connection = Connection(
            address, "halo", lambda *message: heard.append(message[0]), topics={"#": 1, "$SYS/#": 0}
        )
        async with running(connection.run()):
            await connection.wait_up()
            for topic in ("other", "hal", "x/halo/cell/hub"):
                with pytest.raises(BrokerError, match=f"refuses what we publish at {topic}.*topic readwrite halo/#"):
                    await connection.publish(topic, b"1", retain=True)
            await connection.publish("halo/cell/hub", b"1")
            while not {"halo/cell/hub", "$SYS/broker/version"} <= set(heard):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    loop.run(work(), 45)
    assert set(heard) == {"halo/cell/hub", "$SYS/broker/version"}
