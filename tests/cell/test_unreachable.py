"""Brokers that cannot be used: each way has a paragraph of its own, the same from either kind of connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
from types import SimpleNamespace

import aiomqtt
import pytest
from cell_helpers import HANG_S, eventually, listens

from halo.cell.address import Address
from halo.cell.broker import find_mosquitto, free_port
from halo.cell.connection import Connection
from halo.cell.view import running
from halo.errors import BrokerError
from halo.exchange.lane import Lane

_EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_LISTENERS = {
    "good": "allow_anonymous true\ncertfile {good}.crt\nkeyfile {good}.key",
    "other": "allow_anonymous true\ncertfile {other}.crt\nkeyfile {other}.key",
    "expired": "allow_anonymous true\ncertfile {expired}.crt\nkeyfile {expired}.key",
    "self": "allow_anonymous true\ncertfile {self}.crt\nkeyfile {self}.key",
    "certificate": "allow_anonymous true\ncertfile {good}.crt\nkeyfile {good}.key\n"
    "cafile {folder}/ca.crt\nrequire_certificate true",
    "login": "allow_anonymous false\npassword_file {folder}/passwords\nacl_file {folder}/acl",
    "nobody": "allow_anonymous true\nacl_file {folder}/acl",
    "plain": "allow_anonymous true",
}


NOTHING = "(?:nothing comes back of what we publish at|it refuses to show us)"
"""The first one at a mosquitto that refuses no subscription: who may not read notices that nothing comes."""


def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _certificates(folder):
    """An authority `ca`; by it `good`, `other` (of another host) and `expired`; and `self`, which nobody has signed."""
    _openssl(folder, "req", "-x509", *_EC, "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.crt")
    local = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    _openssl(folder, "req", "-x509", *_EC, *local, "-keyout", "self.key", "-out", "self.crt")
    for name, host, days in (("good", "localhost", "2"), ("other", "pi7", "2"), ("expired", "localhost", "-1")):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        _openssl(folder, "req", *_EC, "-subj", f"/CN={host}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        by = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        what = ["-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext", "-days", days]
        _openssl(folder, "x509", "-req", *by, *what)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory):
    """A broker with a port for each way; `.port[name]`, and `.authority`, the file of who is to be trusted."""
    if (program := find_mosquitto()) is None or shutil.which("openssl") is None:
        pytest.skip("needs mosquitto and openssl")
    folder = tmp_path_factory.mktemp("brokers")
    _certificates(folder)
    users = ("halo", "blind", "mute")
    (folder / "passwords").write_text("".join(f"{user}:secret\n" for user in users))
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    rights = zip(users, ("readwrite", "write", "read"), strict=True)
    (folder / "acl").write_text("".join(f"user {user}\ntopic {right} halo/#\n" for user, right in rights))
    found = set()
    while len(found) < len(_LISTENERS):  # one may be given twice while nobody listens at it
        found.add(free_port())
    ports = dict(zip(_LISTENERS, found, strict=True))
    files = {name: folder / name for name in ("good", "other", "expired", "self")} | {"folder": folder}
    parts = [f"listener {ports[name]} 127.0.0.1\n{text.format(**files)}\n" for name, text in _LISTENERS.items()]
    conf = folder / "conf"
    conf.write_text("user root\nper_listener_settings true\nlog_dest none\n" + "".join(parts))
    process = subprocess.Popen([program, "-c", conf], stderr=subprocess.DEVNULL)
    eventually(lambda: process.poll() is not None or all(map(listens, ports.values())))
    yield SimpleNamespace(port=ports, authority=folder / "ca.crt")
    process.kill()
    process.wait()


@contextlib.contextmanager
def silent_port():
    """A port that drops what is sent to open a connection: the queue of its connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as held:
        for _ in range(3):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


WAYS = [
    ("mqtt://no.such.host.invalid", r"Cannot reach .*no\.such\.host.*[Nn]ame .*\. Check host and port"),
    ("mqtt://127.0.0.1:9", "Cannot reach .*: Connection refused. Check host and port"),
    ("mqtt://localhost:{silent}", "Cannot reach .*: no answer. Check host and port"),
    ("mqtt://localhost:{good}", "does not answer as an MQTT broker without TLS.*write mqtts://"),
    ("mqtts://localhost:{plain}", "does not answer as an MQTT broker with TLS.*write mqtt://"),
    ("mqtts://localhost:{other}", "is not accepted: Hostname mismatch.*It is another host's"),
    ("mqtts://localhost:{expired}", "is not accepted: certificate has expired.*Make a new one"),
    ("mqtts://localhost:{self}", r"is not accepted: self-signed certificate\. Let this device trust.*ca\.crt"),
    ("mqtts://localhost:{certificate}", "(speaks TLS|asks for).*client certificate.*HALO has none.*password"),
    ("mqtt://halo:wrong@localhost:{login}", "refused the login .not authorised.*Check user and password"),
    ("mqtt://localhost:{login}", "refused the login .not authorised.*It asks for user and password"),
]


@pytest.mark.parametrize("url, wanted", WAYS)
@pytest.mark.parametrize("kind", ["control", "lane"])
def test_each_way_is_told_with_what_to_try(loop, brokers, monkeypatch, kind, url, wanted):
    monkeypatch.setenv("SSL_CERT_FILE", str(brokers.authority))
    for module in ("connection", "lane"):
        package = "cell" if module == "connection" else "exchange"
        monkeypatch.setattr(f"halo.{package}.{module}._ANSWER_S", 0.5)  # of a network in this machine
    with silent_port() as silent:
        address = Address.parse(url.format(silent=silent, **brokers.port))

        async def work():
            made = (
                Connection(address, "test", print, patience_s=0.1)
                if kind == "control"
                else Lane(address, "test", 0, print, patience_s=0.1)
            )
            async with running(made.run()):
                await made.wait_up()

        with pytest.raises(BrokerError, match=wanted) as caught:
            loop.run(work(), HANG_S)
    text = str(caught.value)
    assert str(address) in text and "wrong" not in text and "\n" not in text and "[" not in text


@pytest.mark.parametrize("url, wanted", [way for way in WAYS if "{expired}" in way[0] or "wrong@" in way[0]])
def test_a_worker_ends_with_that_paragraph_and_exit_code_1(start_worker, brokers, monkeypatch, url, wanted):
    monkeypatch.setenv("SSL_CERT_FILE", str(brokers.authority))
    worker = start_worker("a", "--wait", url=url.format(**brokers.port))
    assert worker.wait(HANG_S) == 1
    text = worker.log.read_text()
    assert re.search(f"error: .*{wanted}", text) and text.count("error:") == 1 and "Traceback" not in text


@pytest.mark.parametrize(
    "user, wanted",
    [("blind", NOTHING), ("mute", "it refuses what we publish at")],
)
def test_an_access_list_in_the_way_ends_hub_and_worker(open_cell, brokers, start_worker, user, wanted, monkeypatch):
    monkeypatch.setattr("halo.cell.connection.RETURNS_S", 1.0)
    url = f"mqtt://{user}:secret@localhost:{brokers.port['login']}"
    worker = start_worker("a", url=url)
    with pytest.raises(
        BrokerError, match=f"{wanted} halo/halo/hub.*must allow the user '{user}'.*topic readwrite halo/#"
    ):
        open_cell(broker=url)
    assert worker.wait(HANG_S) == 1
    text = worker.log.read_text()
    assert re.search(f"{wanted} halo/halo/", text)
    assert "Traceback" not in text and "is in the cell" not in text


@pytest.mark.parametrize("user", ["blind", "mute"])
def test_in_mqtt_3_1_1_an_access_list_is_noticed_by_what_does_not_come(open_cell, brokers, monkeypatch, user):
    monkeypatch.setattr("halo.cell.connection.RETURNS_S", 0.5)
    monkeypatch.setattr("halo.cell.connection._NEWEST", aiomqtt.ProtocolVersion.V311)
    with pytest.raises(BrokerError, match=f"{NOTHING} halo/halo/hub.*'{user}'"):
        open_cell(broker=f"mqtt://{user}:secret@localhost:{brokers.port['login']}")


def test_a_subscription_that_is_refused_is_told(loop):
    """By MQTT 5 and 3.1.1 alike, where the broker refuses subscriptions at all."""

    async def refuse(reader, writer):
        """Says yes to the connection and no to what is subscribed, in the words of the version that was asked."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, length = await reader.readexactly(2)
                body = await reader.readexactly(length)
                if kind == 0x10:
                    modern = body[6] == 5
                    writer.write(b"\x20\x03\0\0\0" if modern else b"\x20\x02\0\0")
                elif kind == 0x82:
                    writer.write(b"\x90\x04" + body[:2] + b"\0\x87" if modern else b"\x90\x03" + body[:2] + b"\x80")

    async def work():
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        lane = Lane(address, "test", 0, print)
        lane.subscribe("halo/x")
        for made in (lane, Connection(address, "test", print, topics={"halo/x": 1})):
            with pytest.raises(BrokerError, match=r"it refuses to show us halo/x: .*clients without a login"):
                await made.run()
        connection = Connection(address, "test", print)
        async with running(connection.run()):
            await connection.wait_up()
            with pytest.raises(BrokerError, match="it refuses to show us halo/y"):
                await connection.subscribe("halo/y", 0)
            assert connection.is_up and not connection._topics  # the next life does not stumble over it
        server.close()

    loop.run(work(), HANG_S)
