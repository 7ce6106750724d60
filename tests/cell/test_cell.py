"""The hub and its workers: opening and closing, the lease, what is refused; real processes and a real broker."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cell_helpers import HANG_S, alive, children, eventually, publish, read_retained, retain
from fake_native import Model

import halo
from halo.cell import hub as hub_module
from halo.cell import messages
from halo.cell import session as session_module
from halo.cell import view as view_module
from halo.cell.broker import Mosquitto
from halo.cell.loop import end_wait_of
from halo.errors import BrokerError, CellError

TOKENS = np.zeros(3, np.int32)


def forward(cell, tokens=TOKENS):
    return cell.engine.forward(0, tokens)


def test_a_hub_alone_uses_no_network(open_cell):
    cell = open_cell()
    assert forward(cell).shape == (1, 16)
    assert cell.report()["workers"] == 0
    assert children(os.getpid()) == []


def test_local_workers_take_part_and_are_reported(open_cell, lines):
    cell = open_cell(workers=2)
    forward(cell)
    report = cell.report()
    assert [d["name"] for d in report["devices"]] == ["hub", "worker-1", "worker-2"]
    assert sum(d["share"] for d in report["devices"]) == pytest.approx(1, abs=1e-3)
    hub, *workers = report["devices"]
    assert report["totals"] == {key: hub[key] for key in report["totals"]}
    assert (hub["messages_sent"], hub["bytes_sent"], hub["bytes_received"]) == (12, 12 * 20, 12 * 30)
    for worker in workers:  # each device's own view
        assert (worker["bytes_sent"], worker["bytes_received"]) == (6 * 30, 6 * 20)
    assert lines[-1] == "computing with the hub and 2 workers (worker-1, worker-2)"


def test_an_opening_that_waits_for_workers_can_be_ended_from_outside(open_cell, broker, loop, monkeypatch):
    """A wait that were not ended would be longer than a test may take."""
    monkeypatch.setattr(hub_module, "_WORKERS_COME_S", 3600)
    refused = []

    def open_it():
        with pytest.raises(CellError, match="was not opened: that was cancelled") as error:
            open_cell(broker=str(broker.address), workers=2)
        refused.append(error)

    thread = threading.Thread(target=open_it)
    end_wait_of(0)
    thread.start()
    eventually(lambda: "halo/halo/hub" in read_retained(loop, broker.address))
    end_wait_of(thread.ident)
    thread.join()
    assert refused and read_retained(loop, broker.address) == {}


def test_a_task_that_is_cancelled_while_its_cell_opens_ends(broker, loop, tiny_model, monkeypatch):
    monkeypatch.setattr(hub_module, "_WORKERS_COME_S", 3600)
    path = tiny_model("F32")

    async def cancelled():
        task = asyncio.ensure_future(halo.agenerate("A", model=path, broker=str(broker.address), workers=2))
        await asyncio.to_thread(eventually, lambda: "halo/halo/hub" in read_retained(loop, broker.address))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert read_retained(loop, broker.address) == {}


def close_in_order(cell):
    """Close it, and see that every part ended of itself: of no wait for one has the patience been used up."""
    local = [child._process for child in cell._locals._children.values()]
    cell.close()
    assert cell._serving.done() and not cell._serving.cancelled()
    assert [process.returncode for process in local] == [0] * len(local)  # killed ones have another


def test_closing_leaves_no_process_kills_none_and_is_idempotent(open_cell, lines):
    cell = open_cell(workers=2)
    pids = children(os.getpid())
    assert len(pids) == 3  # two workers and the broker
    broker = cell._broker.child
    close_in_order(cell)
    assert broker.exit_code == 0
    cell.close()
    assert not [pid for pid in pids if alive(pid)]
    assert "has left" not in " ".join(lines)
    with pytest.raises(CellError, match="closed"):
        forward(cell)


def test_without_mosquitto_the_built_in_broker_serves(open_cell, lines, monkeypatch):
    monkeypatch.setattr("halo.cell.broker.find_mosquitto", lambda: None)
    cell = open_cell(workers=2)
    forward(cell)
    assert cell.report()["workers"] == 2
    assert "mosquitto is not installed" in lines[0]
    close_in_order(cell)
    assert not cell._broker._thread._thread.is_alive()


def test_a_request_that_takes_long_is_not_taken_for_a_loss(open_cell):
    cell = open_cell(workers=1)
    cell.engine._engine.body = b"slow"
    forward(cell, TOKENS[:1])
    assert cell.engine._members.relay.re_requests > 0


def test_cancel_from_another_thread_ends_a_forward(open_cell):
    cell = open_cell(workers=1)
    cell.engine._engine.body = b"slow"
    threading.Timer(0.3, cell.engine.cancel).start()
    with pytest.raises(Exception, match="cancelled"):
        forward(cell, np.zeros(30, np.int32))


def test_too_few_workers_are_named(open_cell, start_worker, broker, monkeypatch):
    monkeypatch.setattr("halo.cell.hub._WORKERS_COME_S", 2.0)
    start_worker("a")
    with pytest.raises(CellError, match=r"Only 1 of 3 workers are ready \(a\) in the cell.*halo worker --broker"):
        open_cell(broker=str(broker.address), workers=3)


def test_a_worker_with_another_model_is_refused_with_both_names(open_cell, start_worker, broker, tmp_path, view):
    other = tmp_path / "other.gguf"
    other.write_text("another model")
    start_worker("a", model=other)
    eventually(lambda: "a" in view().roster.profiles)
    with pytest.raises(CellError, match=r"a: it has another model: other .*other\.gguf.* runs model .*model\.gguf"):
        open_cell(broker=str(broker.address), workers=1)


def test_a_worker_whose_copy_has_other_weights_is_refused(open_cell, start_worker, broker, model, tmp_path, view):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_text(model.read_text() + " content=other")
    start_worker("a", model=damaged)
    eventually(lambda: "a" in view().roster.profiles)
    with pytest.raises(CellError, match=r"a: its file of the model damaged .* has other weights than that of the hub"):
        open_cell(broker=str(broker.address), workers=1)


def test_a_worker_without_the_hubs_split_model_is_told_to_copy_all_parts(
    open_cell, start_worker, broker, tmp_path, view
):
    split = tmp_path / "m-00001-of-00003.gguf"
    split.write_text("part of a model")
    start_worker("a")
    eventually(lambda: "a" in view().roster.profiles)
    with pytest.raises(CellError, match=r"copies of all parts of the hub's model: halo worker -m m-00001-of-00003"):
        open_cell(broker=str(broker.address), workers=1, model=Model(split))


OLD = b'{"protocol":2,"halo":"0.0.9","hub":"pi1","name":"old"}'
OLDER = r"it speaks protocol 2 \(halo 0\.0\.9\), this device 3 \(halo .*\): update HALO there"


def test_mixed_versions_are_named_on_both_sides(open_cell, start_worker, broker, loop):
    retain(loop, broker.address, "halo/halo/hub", OLD)
    worker = start_worker("a")
    eventually(lambda: re.search(f"the hub pi1 of this cell is not served: {OLDER}", worker.log.read_text()))
    retain(loop, broker.address, "halo/halo/device/old/profile", OLD)
    with pytest.raises(CellError, match=rf"Only 1 of 2 workers are ready \(a\) .* old: {OLDER}"):
        open_cell(broker=str(broker.address), workers=2)  # the old hub has no heartbeat any more
    assert worker.poll() is None


def test_a_hub_of_another_version_that_lives_keeps_its_cell(open_cell, broker, loop):
    retain(loop, broker.address, "halo/halo/hub", OLD)
    stop = threading.Event()

    def beat():
        while not stop.wait(0.3):
            publish(loop, broker.address, "halo/halo/hub/beat", b'{"protocol":2,"session":"?"}')

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(CellError, match=f"has a hub of another version: pi1: {OLDER}.*--cell NAME"):
            open_cell(broker=str(broker.address), workers=0)
    finally:
        stop.set()
        beating.join()


def test_a_worker_with_another_model_is_done_without_where_nobody_counts_them(
    open_cell, start_worker, broker, tmp_path, lines, view
):
    other = tmp_path / "other.gguf"
    other.write_text("another model")
    start_worker("a")
    start_worker("b", model=other)
    eventually(lambda: {"a", "b"} <= set(view().roster.profiles))
    cell = open_cell(broker=str(broker.address))
    forward(cell)
    assert cell.report()["workers"] == 1
    assert any("worker b does not take part: it has another model: other" in line for line in lines)


@pytest.mark.parametrize("built_in", [False, True])
def test_a_port_that_another_program_takes_is_told(open_cell, monkeypatch, built_in):
    if built_in:
        monkeypatch.setattr("halo.cell.broker.find_mosquitto", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("halo.cell.broker.free_port", lambda host="": taken.getsockname()[1])
        with pytest.raises(BrokerError, match=r"does not start: .*(Address already in use|address already in use)"):
            open_cell(workers=1)
    assert children(os.getpid()) == []


def test_a_local_worker_that_cannot_start_says_why(open_cell):
    with pytest.raises(CellError, match=r"worker-1.*No such file"):
        open_cell(workers=1, worker_command=[sys.executable, "/does/not/exist.py"])


def test_a_second_hub_is_told_who_leads_the_cell(open_cell, start_worker, broker):
    start_worker("a")
    first = open_cell(broker=str(broker.address), workers=1)
    with pytest.raises(CellError, match="already has a hub"):
        open_cell(broker=str(broker.address), workers=1)
    forward(first)
    open_cell(broker=str(broker.address), cell="other", workers=0)  # another cell is free


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"], indirect=True)
def test_of_hubs_that_come_at_the_same_moment_one_stays(open_cell, broker):
    for round_ in range(2):
        cells, errors = [], []

        def come(cell=f"cell-{round_}", cells=cells, errors=errors):
            try:
                cells.append(open_cell(broker=str(broker.address), workers=0, cell=cell))
            except CellError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=come) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)
        # amqtt may deliver two leases to two hubs in different orders, so that both give up.
        wanted = {1} if isinstance(broker, Mosquitto) else {0, 1}
        eventually(lambda c=cells, w=wanted: sum(cell.engine._members.failure is None for cell in c) in w)
        errors += [str(cell.engine._members.failure) for cell in cells if cell.engine._members.failure]
        assert len(errors) in {3 - staying for staying in wanted}
        assert all("already has a hub" in text for text in errors)
        if wanted == {1}:
            forward(next(cell for cell in cells if cell.engine._members.failure is None))


USURPER = messages.Lease(
    session="f" * 16,
    hub="usurper",
    model=messages.ModelId("0" * 64, "m", "m.gguf"),
    n_ctx=64,
    slots=1,
    partials="fixed",
    since=1.0,
)


def test_a_hub_that_is_usurped_while_it_waits_for_workers_says_so_at_once(open_cell, broker, loop, model, view):
    def usurp():
        eventually(lambda: view().lease)
        retain(loop, broker.address, "halo/halo/hub", messages.encode(USURPER))

    thread = threading.Thread(target=usurp)
    thread.start()
    with pytest.raises(CellError, match="already has a hub: usurper"):
        open_cell(broker=str(broker.address), workers=1)
    thread.join()
    assert read_retained(loop, broker.address)["halo/halo/hub"] == messages.encode(USURPER)


def test_a_lease_without_heartbeat_is_taken_over(open_cell, loop, broker, lines, model, monkeypatch):
    waited = []
    settle = view_module._settle

    async def watched(connection, ear, beat_s, links):
        await settle(connection, ear, beat_s, links)
        waited.append((beat_s, ear.beat.is_set()))

    monkeypatch.setattr(view_module, "_settle", watched)
    lease = messages.Lease(
        session="0" * 16,
        hub="ghost",
        model=messages.ModelId(Model(model).identity, "m", "m.gguf"),
        n_ctx=64,
        slots=1,
        partials="fixed",
        since=1.0,
    )
    retain(loop, broker.address, "halo/halo/hub", messages.encode(lease))
    cell = open_cell(broker=str(broker.address), workers=0)
    assert waited == [(view_module.BEAT_PATIENCE_S, False)]
    assert view_module.BEAT_PATIENCE_S >= 3 * session_module._BEAT_S  # one that is late is not taken for dead
    assert "taking over the cell 'halo' from ghost" in lines[0]
    time.sleep(0.3)
    forward(cell)


def test_a_hub_that_lost_its_lease_stops_with_an_explanation(open_cell, loop, broker, model):
    cell = open_cell(broker=str(broker.address), workers=0)
    retain(loop, broker.address, "halo/halo/hub", messages.encode(USURPER))
    eventually(lambda: cell.engine._members.failure)
    with pytest.raises(CellError, match="already has a hub: usurper"):
        forward(cell)
    cell.close()  # and leaves the other's lease alone
    assert read_retained(loop, broker.address)["halo/halo/hub"] == messages.encode(USURPER)


def test_a_cleared_lease_is_put_back(open_cell, loop, broker, view):
    open_cell(broker=str(broker.address), workers=0)
    before = read_retained(loop, broker.address)["halo/halo/hub"]
    retain(loop, broker.address, "halo/halo/hub", b"")  # as the late will of a dead hub does
    eventually(lambda: view().lease is not None)
    assert read_retained(loop, broker.address)["halo/halo/hub"] == before


def test_no_retained_document_is_left_after_a_clean_end(open_cell, start_worker, broker, loop):
    worker = start_worker("a")
    cell = open_cell(broker=str(broker.address), workers=1)
    assert set(read_retained(loop, broker.address)) == {"halo/halo/hub", "halo/halo/device/a/profile"}
    cell.close()
    eventually(lambda: set(read_retained(loop, broker.address)) == {"halo/halo/device/a/profile"})
    worker.terminate()
    assert worker.wait(HANG_S) == 0
    assert read_retained(loop, broker.address) == {}


def test_how_the_work_is_shared_reaches_engine_lease_and_local_workers(open_cell, loop):
    cell = open_cell(
        workers=1, partials="f16", plan="even", hub_share=0.25, worker_pace_us=1500, worker_pace_group_us=70
    )
    assert (cell.engine._engine.plan, cell.engine._engine.hub_share) == ("even", 0.25)
    assert cell.report()["partials"] == "f16"
    lease = read_retained(loop, cell._broker.address)["halo/halo/hub"]
    assert messages.decode(messages.Lease, lease).partials == "f16"
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in cell._locals.pids]
    assert [command[command.index(b"--pace") + 1] for command in commands] == [b"1500"]
    assert [command[command.index(b"--pace-group") + 1] for command in commands] == [b"70"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"partials": "f8"},
        {"plan": "odd"},
        {"residency": "half"},
        {"hub_share": 1.5},
        {"hub_share": 0.5},
        {"worker_pace_us": -1},
        {"worker_pace_group_us": 1_000_000},
        {"workers": 65},
        {"workers": -1},
        {"hub_share": float("nan")},
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_started(open_cell, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*must be"):
        open_cell(**{"workers": 1} | wrong)
    assert children(os.getpid()) == []


def test_an_unreachable_broker_is_named_after_some_attempts(open_cell, attempts):
    with pytest.raises(BrokerError, match=r"mqtt://127\.0\.0\.1:9: Connection refused"):
        open_cell(broker="mqtt://me:secret@127.0.0.1:9")
    assert 1 < len(attempts) <= 8  # at most so many go into its five seconds: each waits for longer than the one before


def test_garbage_on_every_topic_changes_nothing(open_cell, start_worker, broker, loop):
    start_worker("a")
    cell = open_cell(broker=str(broker.address), workers=1)
    session = cell._session.session
    for payload in (b"\0\xff" * 20, b"{}", b"[" * 60000, b'{"protocol":4}', b"x" * 70000):
        for topic in (
            "hub",
            "hub/beat",
            "device/a/request/0/1",
            "device/a/request/7/x",
            f"session/{session}/partial/a/0",
            "device/b/profile",
        ):
            publish(loop, broker.address, f"halo/halo/{topic}", payload)
        for topic in (
            f"session/{session}/partial/stranger/0",
            f"session/{'0' * 16}/partial/a/0",
            "device/$x/profile",
        ):
            publish(loop, broker.address, f"halo/halo/{topic}", payload)
    forward(cell)
    assert cell.report()["workers"] == 1
    assert cell._session.exchange.ignored >= 5
    assert cell._session.roster.ignored >= 5
