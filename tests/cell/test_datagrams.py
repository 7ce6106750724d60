"""Datagrams as the control plane sees them: workers that they do not reach, ports, addresses that change."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace

import aiomqtt
import fake_native
import numpy as np
import pytest
from cell_helpers import eventually
from msgspec.structs import replace
from test_documents import LEASE, PROFILE

from halo import _native
from halo.cell import session as session_module
from halo.cell import worker as worker_module
from halo.cell.address import Address
from halo.cell.messages import DatagramPlace, Profile, Sealing, decode, encode
from halo.cell.session import HubSession, Offer
from halo.cell.topics import Topics
from halo.cell.worker import WorkerService, WorkerWish
from halo.errors import CellError, WorkerLostError
from halo.exchange import datagrams as datagrams_module
from halo.exchange.datagrams import HubDatagrams
from halo.model import demo_model, open_model

SESSION = "5" * 16
TOKENS = np.array([1, 2], dtype=np.int32)


class Relay(fake_native.Relay):
    """One that takes offers."""

    def open_datagrams(self, own, session, offers, only):
        self.moves = []

    def update_candidates(self, worker, candidates):
        self.moves.append((worker, candidates))


def datagram_worker(worker, port):
    if port == 9:
        raise fake_native.NativeError("port 9: Address already in use")
    return SimpleNamespace(port=port or 40000, serve=lambda *_: None, close=lambda: None)


SEALING = SimpleNamespace(
    **{
        **vars(fake_native.NATIVE),
        "Relay": Relay,
        "sealing_unavailable": lambda: None,
        "KeyPair": lambda: SimpleNamespace(public=bytes(32), check=lambda key: None),
        "DatagramWorker": datagram_worker,
        "ciphers": lambda: ["chacha20-poly1305"],
    }
)


@pytest.fixture
def down(monkeypatch):
    """The workers that datagrams do not reach."""
    names = set()

    def unreached(workers, *_):
        return {name: "its interface is down" for name in workers if name in names}

    monkeypatch.setattr(session_module, "unreached", unreached)
    return names


@pytest.fixture
def hub(broker, start_worker, open_cell):
    """Opens a hub that wants datagrams to three workers; they are in `.started`."""

    def open_():
        started = {name: start_worker(name) for name in ("a", "b", "c")}
        cell = open_cell(broker=str(broker.address), workers=3, transport="udp", native=SEALING)
        cell.started = started
        return cell

    return open_


def test_a_worker_that_datagrams_cannot_reach_is_an_error_at_the_start(hub, down):
    down.add("b")
    with pytest.raises(CellError, match=r"b: its interface is down.*Or use auto"):
        hub()


def test_a_worker_that_datagrams_reach_no_more_is_left_out_and_the_others_go_on(hub, down, lines):
    cell = hub()
    cell.engine.forward(0, TOKENS)
    down.add("b")
    cell.started["a"].kill()
    eventually(lambda: any("worker a is lost" in line for line in lines))
    with pytest.raises(WorkerLostError):
        cell.engine.forward(0, TOKENS)
    assert cell.engine.n_past(0) == 0
    cell.engine.forward(0, TOKENS)
    assert cell.report()["workers"] == 1
    assert any("doing without" in line and "b: its interface is down" in line for line in lines)
    assert lines[-1].endswith("computing with the hub and 1 worker (c)")


def profile(number, **changes):
    place = DatagramPlace(key="ab" * 32, ciphers=[], port=40000, addresses=["192.0.2.1"])
    ready = replace(PROFILE, name=f"w{number:02}", incarnation=f"{number:016x}", state="ready", session=SESSION)
    return replace(ready, datagrams=replace(place, **changes))


def test_of_more_workers_than_a_cell_may_have_the_first_by_name_take_part(lines):
    async def assemble():
        offer = Offer("hub", LEASE.model, 64, 1, "fixed", "mqtt")
        session = HubSession(Address.parse("mqtt://127.0.0.1:9"), Topics("halo"), offer, SEALING, lines.append)
        for number in range(70):
            session.roster.hear(f"w{number:02}", encode(profile(number)))
        return await session._assemble(SESSION)

    formation = asyncio.run(assemble())
    assert formation.names == [f"w{number:02}" for number in range(64)]
    assert lines == ["70 workers are ready: the first 64 by name take part, as many as a cell may have"]


def test_a_hub_looks_for_a_worker_where_its_profile_says_now():
    relay = Relay(int(SESSION, 16), 2, None)
    datagrams = HubDatagrams(SEALING, "auto", loopback=False)
    asyncio.run(datagrams.open(relay, SESSION, [profile(0), profile(1)]))
    moved = {"addresses": ["192.0.2.9", "127.0.0.1"], "port": 40001}
    datagrams.hear(profile(1))  # where it was
    datagrams.hear(profile(2, **moved))  # of another formation
    datagrams.hear(profile(1, key="cd" * 32, **moved))  # for another session
    datagrams.hear(replace(profile(1, **moved), incarnation="f" * 16))  # another process
    datagrams.hear(profile(1, addresses=["127.0.0.1"]))  # nowhere that can be used
    assert relay.moves == []
    datagrams.hear(profile(1, **moved))
    datagrams.hear(profile(1, **moved))
    assert relay.moves == [(1, [("192.0.2.9", 40001)])]


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
    relay = _native.Relay(int(SESSION, 16), 3, lambda messages: None)
    datagrams = HubDatagrams(_native, "auto", loopback=True)
    good = {"key": _native.KeyPair().public.hex(), "addresses": ["1.2.3", "127.0.0.1"], "port": 9}
    profiles = [profile(0, addresses=["1.2.3"]), profile(1, key="00" * 32), profile(2, **good)]
    asyncio.run(datagrams.open(relay, SESSION, profiles))
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
