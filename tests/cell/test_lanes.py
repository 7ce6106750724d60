"""Lanes: what one that is stalled, cut off or doubled does to a cell."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from cell_helpers import HANG_S, eventually, publish, restart

from halo.cell.address import Address
from halo.cell.view import running
from halo.errors import BrokerError
from halo.exchange import codec
from halo.exchange.lane import Lane
from halo.exchange.lanes import COPIES, LANES, Lanes, Route

TOKENS = np.array([1, 2, 3], dtype=np.int32)


def forward(cell):
    return cell.engine.forward(0, TOKENS)


def relay_of(cell):
    return cell.engine._members.relay


def test_a_stalled_lane_is_bypassed(open_cell, start_worker, broker, proxy):
    """Asked again over another lane, answered there, and the stalled one is not used again for the time being."""
    start_worker("a", url=str(proxy.address))
    cell = open_cell(broker=str(broker.address), workers=1)
    forward(cell)
    assert relay_of(cell).re_requests == 0
    proxy.stall(lambda client: client.endswith("-data-0"))
    forward(cell)
    assert relay_of(cell).re_requests == 1
    forward(cell)
    assert relay_of(cell).re_requests == 1


def test_what_a_stalled_lane_delivers_late_changes_nothing(open_cell, start_worker, broker, proxy):
    start_worker("a", url=str(proxy.address))
    cell = open_cell(broker=str(broker.address), workers=1)
    proxy.stall(lambda client: client.endswith("-data-0"))
    forward(cell)
    proxy.stall(lambda client: False)
    for _ in range(5):
        time.sleep(0.02)
        forward(cell)
    assert cell.report()["workers"] == 1


def test_a_cell_of_one_lane_uses_no_other(open_cell, start_worker, broker, proxy):
    """Strict TCP, to compare with: what the lane holds back is waited for."""
    start_worker("a", url=str(proxy.address))
    cell = open_cell(broker=str(broker.address), workers=1, lanes=1)
    proxy.stall(lambda client: not client.endswith(("-data-0", "-control")))
    forward(cell)
    assert relay_of(cell).re_requests == 0


def test_requests_are_hedged_where_many_are_sent_again_and_only_there(loop):
    async def work():
        lanes = Lanes(Address("127.0.0.1", 9), "test", print)
        route = Route(lanes, LANES)
        assert route.choose(0) == ([0], 1)
        used = set()
        for _ in range(8):
            route.choose(0)
            again, copies = route.choose(1)
            used.update(again)
            assert len(set(again)) == copies == COPIES
        assert route.hedging and len(used) > LANES // 2
        assert len(set(route.choose(0)[0])) == COPIES
        for _ in range(2000):
            route.choose(0)
        assert not route.hedging and len(route.choose(0)[0]) == 1

    loop.run(work())


def test_a_worker_with_fewer_lanes_is_asked_over_those(loop):
    async def work():
        lanes = Lanes(Address("127.0.0.1", 9), "test", print)
        for among in (1, 2, 3):
            route = Route(lanes, among)
            for _ in range(20):
                for attempt in (0, 1, 2):
                    chosen, _ = route.choose(attempt)
                    assert chosen and len(set(chosen)) == len(chosen) and max(chosen) < among

    loop.run(work())


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"], indirect=True)
def test_a_lane_carries_messages_over_either_broker(loop, broker):
    heard = []

    async def work():
        a = Lane(broker.address, "halo-a", 0, lambda *message: heard.append(message))
        b = Lane(broker.address, "halo-b", 1, print)
        a.subscribe("halo/x/+")
        async with running(a.run(), b.run()):
            await a.wait_up()
            await b.wait_up()
            a.subscribe("halo/y")
            await asyncio.sleep(0.2)
            b.send(codec.publish("halo/x/1", bytes(100_000)) + codec.publish("halo/y", b"2"))
            await asyncio.sleep(0.3)

    loop.run(work(), HANG_S)
    assert heard == [(0, "halo/x/1", bytes(100_000)), (0, "halo/y", b"2")]


def test_lanes_come_back_with_their_subscriptions(loop, broker):
    heard = []

    async def begin():
        lanes = Lanes(
            broker.address, "halo-test", lambda number, topic, payload: heard.append((number, payload)), count=3
        )
        for number, lane in enumerate(lanes.lanes):
            lane.subscribe(f"halo/{number}")
        task = asyncio.create_task(lanes.run())
        await lanes.wait_up()
        return lanes, task

    lanes, task = loop.run(begin())
    restart(loop, broker)
    eventually(lambda: all(lane.is_up for lane in lanes.lanes))
    for number in range(3):
        publish(loop, broker.address, f"halo/{number}", str(number).encode())
    eventually(lambda: len(heard) >= 3)
    assert sorted(heard) == [(0, b"0"), (1, b"1"), (2, b"2")]  # each by the lane that had subscribed to it
    loop.call(task.cancel)


def test_a_refused_login_is_told_by_a_lane_in_the_same_words(loop):
    async def refuse(reader, writer):
        await reader.read(1000)
        writer.write(b"\x20\x02\x00\x05")

    async def work():
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(BrokerError, match="refused the login"):
            await Lane(address, "halo-test", 0, print).run()
        server.close()

    loop.run(work(), HANG_S)


def test_a_lane_whose_broker_stalls_keeps_little_and_ends_at_once(loop):
    """What would come too late is dropped and counted."""

    async def mute(reader, writer):
        await reader.read(1000)
        writer.write(b"\x20\x02\x00\x00")
        await asyncio.sleep(60)

    async def work():
        server = await asyncio.start_server(mute, "127.0.0.1", 0, limit=1024)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        lane = Lane(address, "halo-test", 0, print)
        task = asyncio.create_task(lane.run())
        await lane.wait_up()
        for _ in range(1000):
            lane.send(bytes(60_000))
        assert lane.dropped > 500 and lane._wire.waiting < 400_000
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    loop.run(work(), HANG_S)
