"""The broker checks: on figures, and against brokers that are set up well and badly."""

from __future__ import annotations

import asyncio
import subprocess
import time

import pytest

from halo.cell.address import Address
from halo.cell.broker import find_mosquitto, free_port
from halo.cell.topics import Topics
from halo.doctor.broker import BrokerFigures, examine_broker, length, nagle, round_trip, security

PI = Address("pi1", 1883)
TOPICS = Topics("halo")


@pytest.fixture
def start_broker(tmp_path):
    """Starts mosquitto with these settings more; returns its address."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed")
    started = []

    def start(*settings):
        port = free_port()
        conf = tmp_path / f"{port}.conf"
        conf.write_text("\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", "user root", *settings]))
        started.append(subprocess.Popen([program, "-c", str(conf)], stderr=subprocess.DEVNULL))
        time.sleep(0.3)
        return Address("127.0.0.1", port)

    yield start
    for process in started:
        process.kill()
        process.wait()


def examined(address):
    findings, figures = asyncio.run(examine_broker(address, TOPICS))
    return {finding.name: finding for finding in findings}, figures


@pytest.mark.parametrize("settings, status", [([], "bad"), (["set_tcp_nodelay true"], "ok")])
def test_nagle_at_a_real_broker_is_measured(start_broker, settings, status):
    found, figures = examined(start_broker(*settings))
    assert found["broker-nagle"].status == status
    assert ("set_tcp_nodelay true" in " ".join(found["broker-nagle"].mend)) == (status == "bad")
    assert found["broker"].measured.startswith("mosquitto version ")
    assert found["broker-security"].status == found["broker-length"].status == "ok"
    assert figures.ip == "127.0.0.1"


def test_a_broker_that_is_not_there_is_the_only_finding():
    found, figures = examined(Address("127.0.0.1", 9))
    assert figures is None
    assert {name: f.status for name, f in found.items()} == {"broker": "bad"}
    assert "Connection refused" in found["broker"].measured


@pytest.mark.parametrize("setting, word", [("retain_available false", "retained messages"), ("max_qos 0", "QoS 1")])
def test_a_broker_that_no_hub_or_worker_could_use_is_told(start_broker, setting, word):
    found, figures = examined(start_broker(setting))
    assert figures is None
    assert found["broker"].status == "bad" and f"has {word} switched off" in found["broker"].measured


def test_a_broker_whose_access_list_swallows_messages_is_told(start_broker, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic read nothing\n")
    acl.chmod(0o600)
    found, figures = examined(start_broker(f"acl_file {acl}"))
    assert not figures.delivers
    assert found["broker"].status == "bad" and "delivers none" in found["broker"].measured
    assert found["broker-nagle"].status == found["broker-length"].status == "unknown"


@pytest.mark.parametrize("limit", ["message_size_limit 20000", "max_packet_size 20000"])
def test_a_broker_that_drops_long_messages_is_told(start_broker, limit):
    found, _ = examined(start_broker(limit))
    assert found["broker"].status == "ok" and found["broker-length"].status == "bad"
    assert limit.split()[0] in " ".join(found["broker-length"].mend)


@pytest.mark.parametrize(
    "times, status, word",
    [([2.0] * 30, "ok", "30 messages"), ([25.0] * 30, "warn", "2176"), ([2.0] * 29 + [210.0], "warn", "1 of them")],
)
def test_slow_messages_and_stalls_are_warned_of(times, status, word):
    found = round_trip(BrokerFigures(PI, round_trips_ms=times))
    assert found.status == status and word in found.measured


def test_a_long_way_is_put_as_time_a_token():
    assert "1.1 s a token" in round_trip(BrokerFigures(PI, round_trips_ms=[25.0] * 3)).why


def test_other_brokers_than_mosquitto_get_no_mosquitto_settings():
    held = [44.0] * 9
    assert "TCP_NODELAY" in nagle(BrokerFigures(PI, kind="EMQX 5", gaps_ms=held)).mend[0]
    assert "set_tcp_nodelay" in " ".join(nagle(BrokerFigures(PI, kind="", gaps_ms=held)).mend)
    assert nagle(BrokerFigures(PI, gaps_ms=[0.1] * 9)).status == "ok"
    assert nagle(BrokerFigures(PI, gaps_ms=[44.0])).status == "unknown"


def test_other_brokers_than_mosquitto_are_not_looked_for_among_its_files():
    assert "EMQX 5" in length(BrokerFigures(PI, kind="EMQX 5", delivers_long=False)).mend[0]
    assert "/etc/mosquitto" not in " ".join(length(BrokerFigures(PI, kind="EMQX 5", delivers_long=False)).mend)


@pytest.mark.parametrize(
    "url, missing",
    [
        ("mqtt://pi1", "no TLS and no login"),
        ("mqtt://me:secret@pi1", "no TLS"),
        ("mqtts://pi1", "no login"),
        ("mqtts://me:secret@pi1", ""),
    ],
)
def test_an_open_broker_is_warned_of_unless_it_is_reached_on_loopback(url, missing):
    found = security(BrokerFigures(Address.parse(url)))
    assert found.status == ("warn" if missing else "ok")
    assert found.measured.endswith(missing)
    assert "secret" not in str(found)
    assert security(BrokerFigures(Address.parse(url), loopback=True)).status == "ok"
