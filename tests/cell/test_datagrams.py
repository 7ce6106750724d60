"""Datagrams as the control plane sees them: workers that they do not reach, ports, addresses that change."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from types import SimpleNamespace

import aiomqtt
import fake_native
import numpy as np
import pytest
from msgspec.structs import replace
from test_documents import LEASE, PROFILE

from halo import _native
from halo.cell import worker as worker_module
from halo.cell.messages import DatagramPlace, Profile, Sealing, decode, encode
from halo.cell.topics import Topics
from halo.cell.worker import WorkerService, WorkerWish
from halo.errors import CellError
from halo.exchange import datagrams as datagrams_module
from halo.exchange.datagrams import HubDatagrams
from halo.model import demo_model, open_model

SESSION = "5" * 16
HEARD = itertools.repeat(0)
"""What a fake worker's link counts at each look."""
TOKENS = np.array([1, 2], dtype=np.int32)


def datagram_worker(worker, port):
    if port == 9:
        raise fake_native.NativeError("port 9: Address already in use")
    return SimpleNamespace(
        port=port or 40000,
        serve=lambda *_: None,
        close=lambda: None,
        link=lambda: {"packets": {"packets_received": next(HEARD)}},
    )


SEALING = SimpleNamespace(
    **{
        **vars(fake_native.NATIVE),
        "sealing_unavailable": lambda: None,
        "KeyPair": lambda: SimpleNamespace(public=bytes(32), check=lambda key: None),
        "DatagramWorker": datagram_worker,
        "ciphers": lambda: ["chacha20-poly1305"],
    }
)


def profile(number, **changes):
    place = DatagramPlace(key="ab" * 32, ciphers=[], port=40000, addresses=["192.0.2.1"])
    ready = replace(PROFILE, name=f"w{number:02}", incarnation=f"{number:016x}", state="ready", session=SESSION)
    return replace(ready, datagrams=replace(place, **changes))


def hub_with(native, transport, *profiles, loopback=False):
    """A hub's datagrams and its relay, which these workers have joined."""
    relay = native.Relay(int(SESSION, 16), lambda messages: None)
    datagrams = HubDatagrams(native, transport, loopback=loopback)
    datagrams.open(relay)
    for said in profiles:
        offer = datagrams.offer(said)
        index = relay.join(offer)
        if offer is not None:
            datagrams.opened(said, index, offer)
    return datagrams, relay


def test_a_hub_looks_for_a_worker_where_its_profile_says_now():
    datagrams, relay = hub_with(SEALING, "auto", profile(0), profile(1))
    del relay.calls[:]
    moved = {"addresses": ["192.0.2.9", "127.0.0.1"], "port": 40001}
    datagrams.hear(profile(1))  # where it was
    datagrams.hear(profile(2, **moved))  # no member
    datagrams.hear(profile(1, key="cd" * 32, **moved))  # of another opening
    datagrams.hear(replace(profile(1, **moved), incarnation="f" * 16))  # another process
    datagrams.hear(profile(1, addresses=["127.0.0.1"]))  # nowhere that can be used
    assert relay.calls == []
    datagrams.hear(profile(1, **moved))
    datagrams.hear(profile(1, **moved))
    assert relay.calls == [("update", 1, [("192.0.2.9", 40001)])]


def test_a_hub_without_a_socket_says_so_and_uses_mqtt(open_cell, broker, start_worker, lines, monkeypatch):
    monkeypatch.setattr(fake_native.Relay, "socket_trouble", "no address family")
    start_worker("a")
    with pytest.raises(CellError, match=r"No datagrams \(--transport udp\) here: no address family"):
        open_cell(broker=str(broker.address), workers=1, transport="udp", native=SEALING)
    cell = open_cell(broker=str(broker.address), workers=1, native=SEALING)
    assert "partials go over MQTT only, since this device has no datagrams: no address family" in lines
    cell.engine.forward(0, TOKENS)
    assert cell.report()["devices"][1]["link"]["reason"] == "the hub has no datagrams: no address family"


@pytest.mark.parametrize("stands", ["nothing", "a dead hub's"])
def test_a_worker_serves_on_while_packets_of_its_hub_come_whatever_becomes_of_the_lease(
    broker, model, monkeypatch, stands
):
    monkeypatch.setattr(worker_module, "_HUB_PINGS_S", 0.2)
    packets = iter([*range(8), *itertools.repeat(8, 1000)])  # after these the hub is gone, too
    monkeypatch.setattr(sys.modules[__name__], "HEARD", packets)
    lease = replace(LEASE, session=SESSION, model=replace(LEASE.model, identity=fake_native.Model(model).identity))
    lease = replace(lease, datagrams=Sealing(key="ab" * 32, ciphers=[]))
    said = []

    async def work():
        address = broker.address
        async with asyncio.timeout(20), aiomqtt.Client(address.host, address.port) as client:
            await client.subscribe(Topics("halo").profile("pi2"), 1)
            await client.publish(Topics("halo").lease, encode(lease), 1, retain=True)
            made = service(broker, model)
            serving = asyncio.create_task(made.serve())
            async for message in client.messages:
                said.append(decode(Profile, message.payload))
                if said[-1].state == "ready":
                    break
            if stands == "nothing":
                await client.publish(Topics("halo").lease, b"", 1, retain=True)
            else:  # which only who connects anew is told
                made._hear(Topics("halo").lease, encode(replace(lease, session="6" * 16)), True)
            async for message in client.messages:
                said.append(decode(Profile, message.payload))
                if said[-1].session != SESSION:
                    break
            os.kill(os.getpid(), signal.SIGTERM)
            await serving

    asyncio.run(work())
    after = ("idle", "") if stands == "nothing" else ("loading", "6" * 16)
    assert [(it.state, it.session) for it in said[-2:]] == [("ready", SESSION), after]
    assert next(packets) == 8  # not before they had ended


def service(broker, model, **wish):
    wish = WorkerWish(broker.address, name="pi2", **wish)
    return WorkerService(fake_native.Model(model), wish, SEALING, lambda line: None)


def test_a_worker_whose_addresses_change_says_so(broker, model, monkeypatch):
    addresses = ["192.0.2.1"]
    monkeypatch.setattr(datagrams_module, "local_addresses", lambda loopback: list(addresses))
    monkeypatch.setattr(worker_module, "_LOOK_S", 0.01)

    async def announced(client, wanted):
        async for message in client.messages:
            place = decode(Profile, message.payload).datagrams
            if (place.addresses, place.port) == (wanted, 40123):
                return

    async def work():
        address = broker.address
        async with asyncio.timeout(10), aiomqtt.Client(address.host, address.port) as client:
            await client.subscribe(Topics("halo").profile("pi2"), 1)
            serving = asyncio.create_task(service(broker, model, udp_port=40123).serve())
            await announced(client, ["192.0.2.1"])
            addresses[:] = ["192.0.2.2", "2001:db8::2"]
            await announced(client, addresses)
            os.kill(os.getpid(), signal.SIGTERM)
            await serving

    asyncio.run(work())


def test_a_udp_port_that_is_taken_is_named(broker, model):
    async def begin():
        service(broker, model, udp_port=9)

    with pytest.raises(CellError, match=r"UDP port 9 cannot be used .*in use.*--udp-port"):
        asyncio.run(begin())


@pytest.mark.skipif(_native.sealing_unavailable() is not None, reason="nothing can be sealed here")
def test_the_native_module_never_sees_an_offer_that_it_would_refuse():
    good = {"key": _native.KeyPair().public.hex(), "addresses": ["1.2.3", "127.0.0.1"], "port": 9}
    profiles = [profile(0, addresses=["1.2.3"]), profile(1, key="00" * 32), profile(2, **good)]
    datagrams, relay = hub_with(_native, "auto", *profiles, loopback=True)
    assert [link["offered"] for link in relay.links()] == [False, False, True]
    assert datagrams.troubles.keys() == {"w00", "w01"}


@pytest.mark.skipif(_native.sealing_unavailable() is not None, reason="nothing can be sealed here")
def test_a_worker_serves_over_mqtt_and_says_why_where_the_key_of_the_lease_is_bad(broker, model, lines):
    native = SimpleNamespace(**{**vars(fake_native.NATIVE), "sealing_unavailable": lambda: None})
    native.KeyPair, native.ciphers, native.NativeError = _native.KeyPair, _native.ciphers, _native.NativeError
    real = _native.DatagramWorker(_native.Worker(open_model(demo_model()).native))
    native.DatagramWorker = lambda worker, port: real
    identity = fake_native.Model(model).identity
    lease = replace(LEASE, session=SESSION, model=replace(LEASE.model, identity=identity))
    bad = replace(lease, datagrams=Sealing(key="00" * 32, ciphers=[]))

    async def work():
        wish = WorkerWish(broker.address, name="pi2")
        async with asyncio.timeout(10), aiomqtt.Client(broker.address.host, broker.address.port) as client:
            await client.subscribe(Topics("halo").profile("pi2"), 1)
            await client.publish(Topics("halo").lease, encode(bad), 1, retain=True)
            serving = asyncio.create_task(WorkerService(fake_native.Model(model), wish, native, lines.append).serve())
            async for message in client.messages:
                said = decode(Profile, message.payload)
                if said.state not in ("idle", "loading"):
                    break
            os.kill(os.getpid(), signal.SIGTERM)
            await serving
            return said

    said = asyncio.run(work())
    assert (said.state, said.session, said.datagrams, said.exchanges) == ("ready", SESSION, None, ["mqtt"])
    assert any("over MQTT only: the key of the hub's lease cannot be used" in line for line in lines)
    assert not any("smaller context" in line for line in lines)
