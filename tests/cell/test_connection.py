"""One connection: which versions it speaks, what it repairs, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess

import aiomqtt
import pytest
from cell_helpers import HANG_S, eventually, listens, publish, restart
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from halo.cell import broker as module
from halo.cell import connection as connection_module
from halo.cell.address import Address
from halo.cell.connection import Connection
from halo.cell.explain import explain
from halo.cell.view import running
from halo.errors import BrokerError
from halo.exchange.lane import Lane


def in_loop(loop, address, body, **options):
    """Run `body(connection, heard)` with a connection that is up."""
    heard = []

    async def work():
        connection = Connection(address, "test", lambda *message: heard.append(message), **options)
        async with running(connection.run()):
            await connection.wait_up()
            await body(connection, heard)

    loop.run(work(), HANG_S)


@pytest.mark.parametrize("broker, version", [("mosquitto", 5), ("amqtt", 4)], indirect=["broker"])
def test_it_speaks_the_newest_version_that_the_broker_has(loop, broker, version):
    async def body(connection, heard):
        assert connection._version == version
        await connection.subscribe("halo/x", 1)
        await connection.publish("halo/x", b"hello")
        while not heard:  # noqa: ASYNC110 (a list has no event)
            await asyncio.sleep(0.01)
        assert heard == [("halo/x", b"hello", False)]

    in_loop(loop, broker.address, body)


def versions_tried(loop, *takes):
    """Connect anew to a broker for each of `takes`: a version of MQTT, and how the broker refuses the other one."""
    versions, now = [], []

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            version = (await reader.readexactly(9))[8]
            versions.append(version)
            taken, refusal = now
            welcome = b"\x20\x03\0\0\0" if version == 5 else b"\x20\x02\0\0"
            writer.write(welcome if version == taken else refusal)
            if version == taken:
                await reader.read()
        writer.close()

    async def work():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        made = [Connection(address, "test", print) for _ in takes]  # before the first is let in, as a hub makes its own
        for connection, now[:] in zip(made, takes, strict=True):
            async with running(connection.run()):
                await connection.wait_up()
        server.close()

    loop.run(work(), HANG_S)
    return versions


BY_5, BY_3_1_1 = b"\x20\x03\0\x84\0", b"\x20\x02\0\x01"


@pytest.mark.parametrize("refusal", [BY_5, BY_3_1_1], ids=["by MQTT 5", "by MQTT 3.1.1"])
def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1(loop, refusal):
    assert versions_tried(loop, (4, refusal)) == [5, 4]


def test_a_broker_of_mqtt_3_1_1_is_remembered(loop):
    assert versions_tried(loop, (4, BY_5), (4, BY_5), (4, BY_5)) == [5, 4, 4, 4]


def test_a_broker_that_takes_the_version_no_more_that_is_remembered_is_tried_with_the_other_one(loop):
    assert versions_tried(loop, (4, BY_5), (5, BY_3_1_1), (5, BY_3_1_1)) == [5, 4, 4, 5, 5]


def test_small_messages_are_sent_at_once(loop, broker):
    async def body(connection, heard):
        assert connection._client._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    in_loop(loop, broker.address, body)


def test_subscriptions_come_back_with_the_connection(loop, broker):
    lines = []
    heard = []

    async def begin():
        connection = Connection(
            broker.address, "test", lambda *m: heard.append(m), topics={"halo/x": 0}, log=lines.append
        )
        task = asyncio.create_task(connection.run())
        await connection.wait_up()
        await connection.subscribe("halo/y", 0)
        return connection, task

    connection, task = loop.run(begin())
    restart(loop, broker)
    eventually(lambda: connection.lives == 2 and connection.is_up)
    publish(loop, broker.address, "halo/x", b"1")
    publish(loop, broker.address, "halo/y", b"2")
    eventually(lambda: len(heard) >= 2)
    loop.call(task.cancel)
    assert [m[:2] for m in heard] == [("halo/x", b"1"), ("halo/y", b"2")]
    assert len(lines) == 2 and "lost the broker" in lines[0] and lines[1].endswith("again")


def test_a_broker_that_hangs_does_not_keep_a_connection_from_ending(loop, broker):
    async def work():
        connection = Connection(broker.address, "test", print)
        task = asyncio.create_task(connection.run())
        await connection.wait_up()
        os.kill(broker.child.pid, signal.SIGSTOP)
        for _ in range(200):
            connection.send("halo/x", bytes(60_000))  # more than the sockets hold: nothing can be written
        client = connection._client
        assert client.timeout > connection_module._GOODBYE_S
        task.cancel()
        await asyncio.wait((task,), timeout=HANG_S)
        ended = task.cancelled()
        os.kill(broker.child.pid, signal.SIGCONT)
        return ended, client.timeout

    ended, patience_s = loop.run(work())
    assert ended  # while the broker still hung
    assert patience_s == connection_module._GOODBYE_S


def test_messages_for_a_broker_that_is_away_are_counted_not_kept(loop):
    async def work():
        connection = Connection(Address("127.0.0.1", 9), "test", print)
        connection.send("halo/x", b"")
        with pytest.raises(BrokerError, match="not connected"):
            await connection.publish("halo/x", b"")
        return connection.dropped

    assert loop.run(work()) == 1


def test_a_handler_that_fails_does_not_end_the_connection(loop, broker):
    async def body(connection, heard):
        connection._on_message = lambda *message: 1 / 0
        await connection.subscribe("halo/x", 1)
        await connection.publish("halo/x", b"")
        while not connection.dropped:  # noqa: ASYNC110 (what it counts has no event)
            await asyncio.sleep(0.01)
        assert (connection.dropped, connection.is_up) == (1, True)

    in_loop(loop, broker.address, body)


@pytest.fixture
def run_broker(tmp_path):
    """Makes contexts in which a broker runs at `.port`, that lets in who has no login (`anonymous`), or nobody; with
    these settings more."""
    if module.find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    port, conf = module.free_port(), tmp_path / "conf"

    @contextlib.contextmanager
    def run(*settings, anonymous=True):
        lines = [f"listener {port} 127.0.0.1", f"allow_anonymous {'true' if anonymous else 'false'}", *settings]
        conf.write_text("\n".join(lines) + "\n")
        process = subprocess.Popen([module.find_mosquitto(), "-c", str(conf)], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: listens(port))
            yield
        finally:
            process.kill()
            process.wait()

    run.port = port
    return run


def test_a_refused_login_is_told_after_one_attempt(loop, run_broker, attempts):
    with run_broker(anonymous=False), pytest.raises(BrokerError, match="refused the login"):
        in_loop(loop, Address("127.0.0.1", run_broker.port, user="me", password="secret"), None)
    assert len(attempts) == 1


@pytest.mark.parametrize(
    "setting, wanted",
    [
        ("retain_available false", "has retained messages switched off.*'retain_available true'"),
        ("max_qos 0", "has QoS 1 switched off.*'max_qos 2'"),
    ],
)
def test_a_broker_without_what_halo_needs_is_told_after_one_attempt(loop, run_broker, attempts, setting, wanted):
    with run_broker(setting), pytest.raises(BrokerError, match=wanted):
        in_loop(loop, Address("127.0.0.1", run_broker.port), None, will_clears="halo/x")
    assert len(attempts) == 1


LET_IN = "does not let in all connections of this device: .*, and 5 stand. Each device needs nine"


@pytest.mark.parametrize("mine, wanted", [(True, LET_IN), (False, "without TLS: .* Each device needs nine")])
@pytest.mark.parametrize("kind", ["control", "lane"])
def test_a_limit_of_connections_is_told(loop, kind, mine, wanted):
    """Of a broker with five connections, of this process or of others."""
    writers = []

    async def serve(reader, writer):
        if len(writers) == 5:
            writer.close()
            return
        writers.append(writer)
        while data := await reader.read(100):
            writer.write(b"\x20\x02\0\0" if data[0] == 0x10 else b"\xd0\0")

    async def work():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        async with contextlib.AsyncExitStack() as stack:
            for number in range(5):
                if mine:
                    lane = Lane(address, f"lane-{number}", number, print)
                    await stack.enter_async_context(running(lane.run()))
                    await lane.wait_up()
                else:
                    _, writer = await asyncio.open_connection(address.host, address.port)
                    stack.callback(writer.close)
            if kind == "control":
                await Connection(address, "test", print, patience_s=0).run()
            else:
                await Lane(address, "test", 5, print, patience_s=0).run()

    with pytest.raises(BrokerError, match=wanted) as caught:
        loop.run(work(), HANG_S)
    assert "is there a limit (mosquitto: 'max_connections'; or a firewall's)?" in str(caught.value)
    assert not connection_module._STANDING


def test_a_quota_is_told_as_a_limit():
    error = aiomqtt.MqttCodeError(ReasonCode(PacketTypes.CONNACK, "Quota exceeded"))
    text = explain(Address("pi1", 1883), error)
    assert "all connections of this device: Quota exceeded. Each device needs nine: is there a limit" in text


def test_a_login_that_is_asked_for_later_is_told_once_and_tried_again(loop, run_broker):
    lines, running_broker = [], contextlib.ExitStack()

    def become(anonymous):
        running_broker.close()
        running_broker.enter_context(run_broker(anonymous=anonymous))

    async def body(connection, heard):
        become(anonymous=False)
        while not any("refused the login" in line for line in lines):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        become(anonymous=True)
        while connection.lives < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    with running_broker:
        become(anonymous=True)
        in_loop(loop, Address("127.0.0.1", run_broker.port), body, log=lines.append)
    assert [line for line in lines if "refused the login" in line] == [lines[1]]
    assert lines[0].startswith("lost the broker") and "It asks for user and password" in lines[1]


def test_a_host_that_does_not_speak_mqtt_is_told_after_one_attempt_with_either_version(loop, attempts):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(BrokerError, match="does not answer as an MQTT broker without TLS: no answer"):
            in_loop(loop, Address("127.0.0.1", server.getsockname()[1]), None)
        assert len(attempts) == 2


def test_a_host_that_closes_the_connection_is_not_waited_for(loop):
    async def close(reader, writer):
        await reader.read(1)
        writer.close()

    async def work():
        server = await asyncio.start_server(close, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(BrokerError, match="without TLS: it has closed the connection"):
            await Connection(address, "test", print, patience_s=0).run()
        server.close()

    loop.run(work(), HANG_S)


def test_a_broker_that_closes_the_connection_once_it_has_let_us_in_is_tried_again_in_the_same_version(loop):
    """As amqtt does to who connects while others subscribe."""
    versions = []

    async def serve(reader, writer):
        data = await reader.read(200)
        if not data:
            return  # we have knocked
        versions.append(data[8])
        writer.write(b"\x20\x03\0\0\0")
        subscription = await reader.read(200)
        if len(versions) == 2:
            writer.write(b"\x90\x04" + subscription[2:4] + b"\0\0")
            await reader.read(200)
        writer.close()

    async def work():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        connection = Connection(address, "test", print, topics={"halo/x": 1})
        async with running(connection.run()):
            await connection.wait_up()
        server.close()

    loop.run(work(), HANG_S)
    assert versions == [5, 5]


def test_the_client_library_still_has_what_sending_uses(loop, broker):
    """We reach through aiomqtt to paho: the private names are watched here."""

    async def body(connection, heard):
        assert isinstance(connection._client, aiomqtt.Client)
        assert callable(connection._client._client.publish)
        assert callable(connection._client._client._sock_close)
        assert isinstance(connection._client._connected, asyncio.Future)
        assert isinstance(connection._client._disconnected, asyncio.Future)
        assert callable(connection._client._client.on_disconnect)

    in_loop(loop, broker.address, body)
