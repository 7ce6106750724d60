"""Workers that hold a shard each: who is told to hold what, when it is loaded, and what becomes of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from cell_helpers import HANG_S, eventually, publish, read_retained, retain
from fake_native import LAYERS, NATIVE, Model, shard_masks, share_masks
from hypothesis import given
from hypothesis import strategies as st

from halo.cell import messages
from halo.cell.memory import Budget
from halo.cell.messages import Lease, ModelId, Plan, Profile
from halo.cell.plan import ShardPlan
from halo.cell.residence import Residence
from halo.cell.roster import Roster
from halo.cell.shards import HubShards
from halo.cli.cell_view import state_of

SESSION = "5" * 16
NOTHING = [(0, 0)] * LAYERS
NAMES = st.sets(st.sampled_from("abcdef"))


@given(NAMES, st.lists(NAMES, max_size=8), st.sampled_from([None, 0.0, 0.5]))
def test_a_shard_has_one_holder_and_none_lies_idle_while_somebody_has_none(begin, changes, hub_share):
    plan = ShardPlan(SESSION, hub_share)
    plan.settle(begin)
    assert all(plan.shard_of(name) is not None for name in begin)
    for present in changes:
        before = {name: plan.shard_of(name) for name in present}
        plan.follow(present)
        shards = plan.document().shards
        held = [shard for shard in shards.values() if shard is not None]
        assert len(held) == len(set(held)) and all(0 <= i < of for i, of in held)
        waiting = [name for name in present if shards[name] is None]
        if waiting:
            others = {shards[name] for name in present} - {None}
            assert len(others) == len(begin) or (not begin and len(others) == (0 if hub_share is None else 1))
        for name, shard in before.items():
            assert shard is None or shards[name] == shard  # whoever holds one keeps it


def test_with_a_share_of_its_own_the_hub_leaves_all_groups_to_the_workers():
    alone, beside = ShardPlan(SESSION, None), ShardPlan(SESSION, 0.0)
    for plan in (alone, beside):
        plan.settle(["b", "a"])
    assert (alone.hub_shard, alone.shard_of("a"), alone.shard_of("b")) == ((0, 3), (1, 3), (2, 3))
    assert (beside.hub_shard, beside.shard_of("a"), beside.shard_of("b")) == (None, (0, 2), (1, 2))


def profile(name, state="ready", shard=None):
    return Profile(
        name=name,
        incarnation="1" * 16,
        isa="fake",
        threads=1,
        cores=1,
        memory_bytes=1,
        exchanges=["mqtt"],
        model=None,
        session=SESSION,
        state=state,
        reason="",
        shard=shard,
    )


class Relays:
    def __init__(self):
        self.resident = {}

    def set_resident(self, index, masks):
        assert self.resident.get(index) != masks, "told twice"
        self.resident[index] = masks


def test_the_relay_is_told_what_workers_hold_not_what_they_shall_hold():
    async def scenario():
        roster, published, relay = Roster(SESSION), [], Relays()

        async def publish_plan(plan):
            published.append(plan)

        def hear(name, **options):
            roster.hear(name, messages.encode(profile(name, **options)))

        shards = HubShards(SESSION, NATIVE, None, None, roster, publish_plan)
        hear("a", state="loading")
        await shards.gather(2, waited=False)
        assert published == []
        hear("b", state="loading")
        await shards.gather(2, waited=False)
        assert published == [Plan(session=SESSION, shards={"a": (1, 3), "b": (2, 3)})]
        assert shards.hub_masks() == shard_masks(None, 0, 3)
        hear("a", shard=(1, 3))
        hear("b", shard=(1, 3))  # not what it was told
        shards.tell(relay, enumerate("ab"))
        assert relay.resident == {0: shard_masks(None, 1, 3), 1: NOTHING}
        hear("b", shard=(2, 3))
        shards.tell(relay, enumerate("ab"))
        assert relay.resident[1] == shard_masks(None, 2, 3)
        roster.hear("a", b"")
        hear("c")
        await shards.follow()  # a may only have changed its connection
        assert published[-1].shards["c"] is None
        await shards.follow()
        assert published[-1].shards == {"b": (2, 3), "c": (1, 3)}

    asyncio.run(scenario())


def test_a_plan_that_is_written_over_or_cleared_is_said_again_once_a_second():
    async def scenario():
        roster, published = Roster(SESSION), []

        async def publish_plan(plan):
            published.append(plan)

        shards = HubShards(SESSION, NATIVE, None, None, roster, publish_plan)
        shards.hear(b"rubbish")  # of who was here before us
        await shards.put_back()
        assert published == []
        roster.hear("a", messages.encode(profile("a", state="loading")))
        await shards.gather(1, waited=False)
        own = messages.encode(published[0])
        foreign = messages.encode(Plan(session="6" * 16, shards={"a": (0, 2)}))
        for other in (b"", b"rubbish", foreign, b'{"protocol":4}'):
            shards.hear(own)
            del published[:]
            for _ in range(20):
                shards.hear(other)
            assert published == []  # who writes without end is not answered each time
            await shards.put_back()
            await shards.put_back()
            assert [messages.encode(plan) for plan in published] == [own]
        shards.hear(b"rubbish")
        shards.hear(own)  # ours came after it
        del published[:]
        await shards.put_back()
        assert published == []

    asyncio.run(scenario())


def test_a_hub_with_a_share_holds_that():
    async def never(plan):
        raise AssertionError

    shards = HubShards(SESSION, NATIVE, None, 0.5, Roster(SESSION), never)
    asyncio.run(shards.follow())
    assert shards.hub_masks() == share_masks(None, 0.5)


def lease(residency):
    return Lease(
        session=SESSION,
        hub="hub",
        model=ModelId("ab" * 32, "m", "m.gguf"),
        n_ctx=64,
        slots=1,
        partials="fixed",
        since=0,
        residency=residency,
    )


def test_a_worker_loads_what_the_plan_says_and_never_the_head(model):
    async def scenario():
        opened = Model(model)
        residence = Residence(NATIVE, opened, "a", Budget(), print)
        assert await residence.wanted(lease("full")) == (0, 1)
        waiting = asyncio.create_task(residence.wanted(lease("shards")))
        for payload in (
            b"",
            b"{}",
            messages.encode(Plan(session="6" * 16, shards={"a": (0, 2)})),
            messages.encode(Plan(session=SESSION, shards={"b": (0, 2)})),
            messages.encode(Plan(session=SESSION, shards={"a": (2, 2)})),
        ):
            residence.hear(payload)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        residence.hear(messages.encode(Plan(session=SESSION, shards={"a": None})))
        assert await waiting is None
        await residence.load(None, lambda loaded: None)
        changing = asyncio.create_task(residence.changed(lease("shards"), None))
        residence.hear(messages.encode(Plan(session=SESSION, shards={"a": (1, 2)})))
        assert await changing == (1, 2)
        assert not residence.exceeds((1, 2))
        await residence.load((1, 2), lambda loaded: None)
        assert opened.loads == [(NOTHING, False), (shard_masks(None, 1, 2), False)]
        assert not residence.exceeds((0, 1)) and residence.exceeds((0, 2)) and residence.exceeds(None)
        assert residence.ignored == 1
        residence.close()

    asyncio.run(scenario())


def test_a_worker_that_waits_for_a_plan_which_it_cannot_read_says_so_once(model, lines):
    async def scenario():
        residence = Residence(NATIVE, Model(model), "a", Budget(), lines.append)
        residence.hear(b"rubbish")
        waiting = asyncio.create_task(residence.wanted(lease("shards")))
        for _ in range(3):
            await asyncio.sleep(0.01)
            residence.hear(b"rubbish")
        assert len(lines) == 1 and lines[0].startswith("waiting for the hub's plan: what stands there is none (")
        residence.hear(messages.encode(Plan(session=SESSION, shards={"a": (1, 2)})))
        assert await waiting == (1, 2)
        changing = asyncio.create_task(residence.changed(lease("shards"), (1, 2)))
        residence.hear(b"rubbish")
        await asyncio.sleep(0.01)
        assert len(lines) == 1 and not changing.done()  # it serves
        changing.cancel()
        residence.close()

    asyncio.run(scenario())


def test_loading_that_is_cancelled_stops_and_leaves_the_loop_free(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_text("load=60")

    async def scenario():
        residence = Residence(NATIVE, Model(path), "a", Budget(), print)
        loading = asyncio.create_task(residence.load((0, 1), lambda loaded: None))
        await asyncio.sleep(0.1)
        assert not loading.done()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert residence._loader.submit(lambda: "free").result(HANG_S) == "free"
        residence.close()

    asyncio.run(scenario())


def profiles(view):
    return view().roster.profiles


def test_with_shards_a_joiner_holds_nothing_until_somebody_is_gone(open_cell, start_worker, broker, loop, view):
    first, _ = start_worker("a"), start_worker("b")
    cell = open_cell(broker=str(broker.address), workers=2, residency="shards")
    relay = cell._session.members.relay
    assert relay.resident == {0: shard_masks(None, 1, 3), 1: shard_masks(None, 2, 3)}
    assert cell._model.held == shard_masks(None, 0, 3)
    retained = read_retained(loop, broker.address)
    assert messages.decode(Lease, retained["halo/halo/hub"]).residency == "shards"
    start_worker("c")
    eventually(lambda: "c" in profiles(view) and profiles(view)["c"].state == "ready")
    assert profiles(view)["c"].shard is None
    first.terminate()
    eventually(lambda: profiles(view)["c"].shard == (1, 3))
    plan = read_retained(loop, broker.address)["halo/halo/plan"]
    for rubbish in (b"rubbish", b""):
        retain(loop, broker.address, "halo/halo/plan", rubbish)
        eventually(lambda: read_retained(loop, broker.address).get("halo/halo/plan") == plan)
    cell.close()
    assert "halo/halo/plan" not in read_retained(loop, broker.address)
    eventually(lambda: profiles(view)["c"].state == "idle")


@pytest.mark.parametrize("residency", ["full", "shards"])
def test_a_hub_without_a_number_waits_for_workers_that_load(
    open_cell, start_worker, broker, tmp_path, view, residency, loop
):
    slow = tmp_path / "slow.gguf"
    slow.write_text("load=3.5")
    start_worker("a", model=slow)
    eventually(lambda: "a" in profiles(view))
    hub = Model(slow)
    hub.slow = 0
    cell = open_cell(broker=str(broker.address), residency=residency, model=hub)
    assert cell.report()["workers"] == 1


def test_a_worker_that_loads_says_how_far_it_is_and_leaves_when_its_hub_does(
    start_worker, broker, loop, tmp_path, view
):
    slow = tmp_path / "slow.gguf"
    slow.write_text("load=60")
    worker = start_worker("a", model=slow)
    eventually(lambda: "a" in profiles(view))
    said = Lease(
        session=SESSION,
        hub="hub",
        model=ModelId(Model(slow).identity, "m", "m.gguf"),
        n_ctx=64,
        slots=1,
        partials="fixed",
        since=time.time(),
    )
    retain(loop, broker.address, "halo/halo/hub", messages.encode(said))
    loaded = eventually(lambda: profiles(view)["a"].loaded)
    assert 0 < loaded < 1 and profiles(view)["a"].state == "loading"
    publish(loop, broker.address, "halo/halo/plan", b"\xff{")  # garbage changes nothing
    retain(loop, broker.address, "halo/halo/hub", b"")
    eventually(lambda: profiles(view)["a"].state == "idle")
    worker.terminate()
    assert worker.wait(HANG_S) == 0


def test_devices_are_shown_with_their_shard_and_how_far_they_are():
    assert state_of("loading", None, None) == "loading"
    assert state_of("loading", 0.4, None) == "loading 40%"
    assert state_of("ready", None, (0, 3)) == "ready 1/3"
