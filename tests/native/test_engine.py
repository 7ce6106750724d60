"""The engine's behaviour at its edges: bad calls, cancelling, lost workers, figures, hostile messages."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone, arrives
from tests.tiny_gguf import Shape

TOKENS = np.arange(10, 30, dtype=np.int32)


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q4_0"))


def test_bad_calls_are_refused_and_change_nothing(model: Model) -> None:
    engine = _native.Engine(model.native, 32)
    engine.forward(0, TOKENS)
    for slot, tokens in [(1, TOKENS[:1]), (0, TOKENS[:0]), (0, np.array([320])), (0, np.array([-1])), (0, TOKENS)]:
        with pytest.raises(ValueError, match=r"slot|token|context"):
            engine.forward(slot, np.asarray(tokens, np.int32))
    with pytest.raises(ValueError, match="negative"):
        engine.truncate(0, -1)
    with pytest.raises(ValueError, match="empty"):
        engine.attach(None)
    assert engine.n_past(0) == len(TOKENS)
    for n_ctx, threads in [(0, 1), (2**30, 1), (8, 0)]:
        with pytest.raises(ValueError, match=r"n_ctx|threads"):
            _native.Engine(model.native, n_ctx, threads=threads)
    with pytest.raises(ValueError, match="fixed, f32"):
        _native.Engine(model.native, 8, partials="f64")


def test_last_logits_are_those_of_the_last_position(model: Model) -> None:
    every = alone(model, TOKENS)
    engine = _native.Engine(model.native, 64)
    assert np.array_equal(engine.forward(0, TOKENS), every[-1:])


def test_cancel_stops_a_forward_that_waits_and_nothing_is_lost(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:5])
    cell.fate = lambda message: []
    timer = threading.Timer(0.1, cell.engine.cancel)
    timer.start()
    with pytest.raises(_native.Interrupted):
        cell.engine.forward(0, TOKENS[5:])
    timer.join()
    assert cell.engine.n_past(0) == 5
    cell.fate = arrives
    assert np.array_equal(cell.engine.forward(0, TOKENS[5:], True), alone(model, TOKENS)[5:])


def state(cell: LocalCell, worker: int = 0) -> tuple[str, str]:
    member = cell.relay.members()[worker]
    assert member is not None
    return member["state"], member["reason"]


def test_a_silent_worker_is_stood_in_for_and_asked_nothing_more(model: Model) -> None:
    cell = LocalCell(model, 2)
    cell.engine.forward(0, TOKENS[:5])
    answer = cell.answer
    cell.answer = lambda index, message: answer(index, message) if index == 0 else b""  # type: ignore[method-assign]
    assert np.array_equal(cell.engine.forward(0, TOKENS[5:], True), alone(model, TOKENS)[5:])
    assert state(cell, 0)[0] == "stable"
    assert state(cell, 1)[0] == "probation"
    stats = cell.engine.stats()
    assert stats["stand_ins"] == stats["devices"][2]["stand_ins"] == 1
    assert stats["devices"][2]["probations"] == 1


def test_a_worker_that_answers_again_is_used_again(model: Model) -> None:
    """What it has missed meanwhile is copied into its cache."""
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:5])
    cell.fate = lambda message: []
    cell.engine.forward(0, TOKENS[5:9])
    cell.fate = arrives
    results = cell.engine.stats()["devices"][1]["group_results"]
    tokens = list(TOKENS[:9])
    for step in range(200):
        if cell.relay.members()[0]["cache"] == 1.0 and state(cell)[0] == "stable":  # type: ignore[index]
            break
        tokens.append(11 + step % 7)
        logits = cell.engine.forward(0, [tokens[-1]])
        assert np.array_equal(logits, alone(model, np.array(tokens, np.int32))[-1:])
        time.sleep(0.01)  # inputs count as lost only after a while
    stats = cell.engine.stats()["devices"][1]
    assert stats["filled_rows"] > 0
    cell.engine.forward(0, [5])
    assert cell.engine.stats()["devices"][1]["group_results"] > max(results, stats["group_results"])


def test_a_worker_that_is_computing_is_waited_for(model: Model) -> None:
    """Where nobody may stand in for it: a slow worker answers re-requests with `computing`."""
    cell = LocalCell(model, 1, re_request_s=0.05, stand_ins=False)
    answer = cell.answer
    threads = []

    def slow(index: int, message: bytes) -> bytes:
        verdict, reply = cell.workers[index].accept(message)
        if verdict != "compute":
            return reply

        def later() -> None:
            time.sleep(0.6)
            cell.relay.deliver(index, cell.workers[index].compute(message))

        threads.append(threading.Thread(target=later))
        threads[-1].start()
        cell.answer = fast  # type: ignore[method-assign]
        return b""

    def fast(index: int, message: bytes) -> bytes:
        return answer(index, message)

    cell.answer = slow  # type: ignore[method-assign]
    logits = cell.engine.forward(0, TOKENS[:1], True)
    for thread in threads:
        thread.join()
    assert np.array_equal(logits, alone(model, TOKENS[:1]))


def test_a_worker_that_leaves_costs_nothing_but_itself(model: Model) -> None:
    cell = LocalCell(model, 2)
    cell.engine.forward(0, TOKENS[:3])
    cell.relay.leave(1, "went away")
    assert np.array_equal(cell.engine.forward(0, TOKENS[3:], True), alone(model, TOKENS)[3:])
    assert state(cell, 1) == ("gone", "went away")
    assert cell.engine.stats()["stand_ins"] == 0
    cell.relay.forget(1)
    assert cell.relay.members()[1] is None
    assert cell.relay.join(None) == 1  # the number is free again


def test_a_worker_that_leaves_in_the_middle_of_a_sync_is_stood_in_for(model: Model) -> None:
    cell = LocalCell(model, 2)
    cell.engine.forward(0, TOKENS[:3])
    answer = cell.answer

    def leave(index: int, message: bytes) -> bytes:
        if index == 0:
            return answer(index, message)
        cell.relay.leave(1, "went away")
        return b""

    cell.answer = leave  # type: ignore[method-assign]
    assert np.array_equal(cell.engine.forward(0, TOKENS[3:], True), alone(model, TOKENS)[3:])
    assert cell.engine.stats()["stand_ins"] == 1


def test_a_worker_that_joins_in_the_middle_is_given_the_cache_and_heads(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:10])
    worker = _native.Worker(model.native)
    worker.open(cell.session, 256, 1)
    cell.workers.append(worker)
    assert cell.relay.join(None) == 1
    logits = [cell.engine.forward(0, TOKENS[i : i + 1]) for i in range(10, 20)]
    assert np.array_equal(np.concatenate(logits), alone(model, TOKENS)[10:])
    assert cell.engine.stats()["devices"][2]["filled_rows"] == 10 * model.spec.n_layers
    assert cell.relay.members()[1]["cache"] == 1.0  # type: ignore[index]


def test_a_worker_that_joins_while_others_work_is_waited_for_once_it_has_answered(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:10])
    worker = _native.Worker(model.native)
    worker.open(cell.session, 256, 1)
    cell.workers.append(worker)
    cell.fate = lambda message: []
    assert cell.relay.join(None) == 1
    cell.relay.leave(0, "test")
    logits = [cell.engine.forward(0, TOKENS[i : i + 1]) for i in range(10, 12)]
    assert cell.engine.stats()["stand_ins"] == 0
    cell.fate = arrives
    logits += [cell.engine.forward(0, TOKENS[i : i + 1]) for i in range(12, 20)]
    assert np.array_equal(np.concatenate(logits), alone(model, TOKENS)[10:])
    assert cell.engine.stats()["devices"][2]["group_results"] > 0


def test_what_a_forgotten_worker_never_answered_is_counted(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:3])
    cell.fate = lambda message: []
    cell.engine.forward(0, TOKENS[3:4])
    figures = cell.relay.forget(0)
    assert 0 < figures["never"] <= figures["stand_ins"]


def test_a_worker_that_has_lost_its_cache_refuses_instead_of_guessing_and_is_filled_again(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:5])
    cell.workers[0].open(cell.session, 256, 1)  # and does not say so
    logits = [cell.engine.forward(0, TOKENS[i : i + 1]) for i in range(5, 20)]
    assert np.array_equal(np.concatenate(logits), alone(model, TOKENS)[5:])
    stats = cell.engine.stats()
    assert stats["devices"][1]["stand_ins"] == model.spec.n_layers
    assert state(cell)[0] == "stable"


def test_a_worker_that_does_not_pay_rests_and_is_used_once_it_does(model: Model) -> None:
    """Nothing is sent to it but a try now and then; when it has become fast it gets groups, its cache, and heads."""
    cell = LocalCell(model, 1)
    post = cell._post
    bench = ThreadPoolExecutor(1)  # what the worker computes costs the hub nothing
    cell._post = lambda messages: bench.submit(post, messages)  # type: ignore[assignment,method-assign,return-value]
    cell.engine.set_plan("auto")
    cell.engine.pace(0, 200)
    cell.workers[0].set_pace(10_000)

    def tokens(count: int) -> list[dict[str, Any]]:
        for i in range(count):
            if cell.engine.n_past(0) >= 250:
                cell.engine.truncate(0, 1)
            cell.engine.forward(0, [7 + i % 5])
        devices: list[dict[str, Any]] = cell.engine.stats()["devices"]
        return devices

    asked = tokens(400)[1]["requests"]
    assert tokens(100)[1]["requests"] - asked < 150  # 300 with every input
    assert state(cell)[0] == "stable"
    cell.workers[0].set_pace(0)
    cell.engine.truncate(0, 20)
    before = tokens(200)
    after = tokens(50)
    bench.shutdown()
    assert cell.relay.members()[0]["cache"] == 1.0  # type: ignore[index]
    assert (
        after[1]["group_results"] - before[1]["group_results"] > after[0]["group_results"] - before[0]["group_results"]
    )


@pytest.mark.parametrize("plan", ["even", "auto"])
def test_a_worker_that_is_slow_beyond_use_is_not_waited_for_again_and_again(model: Model, plan: str) -> None:
    """It answers, only very late: a few syncs learn that, and the others do without it."""
    cell = LocalCell(model, 1)
    post = cell._post
    late = threading.Event()

    def slow(messages: list[tuple[int, int, bytes]]) -> None:
        if late.is_set():
            threading.Timer(0.2, post, [messages]).start()
        else:
            post(messages)

    cell._post = slow  # type: ignore[assignment,method-assign]
    cell.engine.set_plan(plan)
    for token in TOKENS:
        cell.engine.forward(0, [token])
    late.set()
    waited = []
    for i in range(60):
        cell.engine.forward(0, [TOKENS[i % 20]])
        waited.append(cell.engine.stats()["stand_ins"])
    assert waited[-1] == waited[29]  # nobody was waited for any more
    time.sleep(0.5)


def test_who_lies_about_its_cache_again_and_again_is_expelled(model: Model) -> None:
    cell = LocalCell(model, 1)

    def forgetful(index: int, message: bytes) -> bytes:
        if message[5] == 1 and message[36] == 0 and any(message[40:48]):  # heads
            cell.workers[0].open(cell.session, 256, 1)
        verdict, answer = cell.workers[index].accept(message)
        return cell.workers[index].compute(message) if verdict == "compute" else answer

    cell.engine.forward(0, TOKENS[:1])
    cell.answer = forgetful  # type: ignore[method-assign]
    logits = [cell.engine.forward(0, TOKENS[i : i + 1]) for i in range(1, 20)]
    assert np.array_equal(np.concatenate(logits), alone(model, TOKENS)[1:])
    assert state(cell)[0] in ("expelled", "probation")


def test_another_protocol_version_is_named(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.relay.deliver(0, b"HALO" + bytes([9]) + bytes(59))  # of no session: anybody may have sent it
    assert state(cell)[0] == "stable"
    cell.relay.deliver(0, b"HALO" + bytes([9, 2, 0, 0]) + cell.session.to_bytes(8, "little") + bytes(48))
    assert state(cell)[0] == "expelled"
    assert "version 9" in state(cell)[1]
    assert np.array_equal(cell.engine.forward(0, TOKENS[:1]), alone(model, TOKENS[:1]))


def test_an_answer_of_the_wrong_shape_expels_the_worker(model: Model) -> None:
    cell = LocalCell(model, 1)
    answer = cell.answer
    cell.answer = lambda index, message: answer(index, message)[:-4]  # type: ignore[method-assign]
    assert np.array_equal(cell.engine.forward(0, TOKENS[:1]), alone(model, TOKENS[:1]))
    assert state(cell)[0] == "expelled"
    assert "wrong shape" in state(cell)[1]


def test_figures_count_every_group_once(model: Model) -> None:
    cell = LocalCell(model, 2)
    cell.engine.forward(0, TOKENS)
    stats = cell.engine.stats()
    groups = sum(len(b) - 1 for b in model.grid.attention + model.grid.mlp)
    assert sum(d["group_results"] for d in stats["devices"]) == groups * len(TOKENS)
    assert stats["tokens"] == len(TOKENS)
    assert all(d["bytes_sent"] > 0 and d["bytes_received"] > 0 for d in stats["devices"][1:])
    cell.engine.reset_stats()
    assert sum(d["group_results"] for d in cell.engine.stats()["devices"]) == 0


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_garbage_changes_nothing_but_counters(model: Model, data: st.DataObject) -> None:
    cell = LocalCell(model, 1)
    taken: list[bytes] = []
    cell.fate = lambda message: (taken.append(message), [message])[1]
    expected = cell.engine.forward(0, TOKENS[:2], True)
    message = bytearray(data.draw(st.sampled_from(taken)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(message), 120) - 1))
        message[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(message)))
    for garbage in (bytes(message), bytes(message[:end]), data.draw(st.binary(max_size=200))):
        other = LocalCell(model, 1)
        verdict, _ = other.workers[0].accept(garbage)
        if verdict == "compute":
            other.workers[0].compute(garbage)
        other.relay.deliver(0, garbage)
        other.relay.deliver(7, garbage)
        other.workers[0].open(other.session, 256, 1)
        if garbage[:4] != b"HALO" or garbage[4:5] == bytes([_native.PROTOCOL]):
            assert np.array_equal(other.engine.forward(0, TOKENS[:2], True), expected)


def test_probe_returns_the_time_of_a_sync_without_arithmetic(model: Model) -> None:
    cell = LocalCell(model, 3)
    assert all(seconds > 0 for seconds in cell.relay.probe(2200, 8200, 3))


def test_a_request_carries_the_documented_header(model: Model) -> None:
    cell = LocalCell(model, 1)
    taken: list[bytes] = []
    cell.fate = lambda message: (taken.append(message), [message])[1]
    cell.engine.forward(0, TOKENS[:1])
    magic, protocol, kind, _, status, session, request, epoch, sync, slot, layer, part = struct.unpack_from(
        "<4sBBBBQQIIHHB", taken[0]
    )
    assert (magic, protocol, kind, status, session) == (b"HALO", _native.PROTOCOL, 1, 0, cell.session)
    assert (request, epoch, sync, slot, layer, part) == (1, 0, 0, 0, 0, 0)
    input_format, partial_format, groups, mask, d, rows = struct.unpack_from("<BBBQIH", taken[0], 37)
    assert (input_format, partial_format, groups, d, rows) == (8, 2, len(model.grid.attention[0]) - 1, 64, 1)
    assert 0 <= mask < 1 << groups


def _first_request(model: Model) -> tuple[LocalCell, bytearray]:
    cell = LocalCell(model, 1)
    taken: list[bytes] = []
    cell.fate = lambda message: (taken.append(message), [message])[1]
    cell.engine.forward(0, TOKENS[:2])
    return cell, bytearray(taken[0])


@pytest.mark.parametrize("positions", [(0xFFFFFFFF, 0), (255, 256), (256, 257), (1, 0), (3, 3)])
def test_impossible_positions_are_refused(model: Model, positions: tuple[int, int]) -> None:
    cell, request = _first_request(model)
    struct.pack_into("<Q", request, 16, 999)
    for row, position in enumerate(positions):
        struct.pack_into("<I", request, 64 + 8 * row, position)
    verdict, answer = cell.workers[0].accept(bytes(request))
    assert verdict == "answer"
    assert (answer[7], struct.unpack_from("<H", answer, 54)[0]) == (3, 3)


@pytest.mark.parametrize(("place", "value"), [(7, 1), (64, 99)])  # status `range` with no row; another exponent
def test_an_answer_that_contradicts_itself_or_its_request_expels_the_worker(
    model: Model, place: int, value: int
) -> None:
    cell = LocalCell(model, 1)
    answer = cell.answer

    def lie(index: int, message: bytes) -> bytes:
        reply = bytearray(answer(index, message))
        reply[place] = value
        return bytes(reply)

    cell.answer = lie  # type: ignore[method-assign]
    assert np.array_equal(cell.engine.forward(0, TOKENS[:1]), alone(model, TOKENS[:1]))
    assert state(cell)[0] == "expelled"
    assert "wrong shape" in state(cell)[1]


def test_a_context_that_does_not_fit_is_refused_when_a_session_opens(model: Model) -> None:
    code = (
        "import resource, sys; from halo import _native; from halo.model import open_model\n"
        "worker = _native.Worker(open_model(sys.argv[1]).native)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    worker.open(1, 1 << 20, 64)\n"
        "except MemoryError:\n    print('refused')\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(model.path)], capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "refused", out.stderr


def test_a_copy_is_dropped_and_a_request_sent_again_is_answered(model: Model) -> None:
    """Where every message goes over two connections, answering both copies would double the answers once more."""
    cell, request = _first_request(model)
    worker = cell.workers[0]
    struct.pack_into("<Q", request, 16, 999)
    first = bytes(request)
    request[6] = 1
    again = bytes(request)
    assert worker.accept(first)[0] == "compute"
    assert worker.accept(first)[0] == "drop"
    verdict, answer = worker.accept(again)
    assert (verdict, answer[7]) == ("answer", 2)
    reply = worker.compute(first)
    assert worker.accept(first)[0] == "drop"
    assert worker.accept(again) == ("answer", reply)


def test_a_request_whose_sync_has_passed_is_not_computed_but_its_input_is_kept(model: Model) -> None:
    cell = LocalCell(model, 1)
    sent: list[bytes] = []
    cell.fate = lambda message: sent.append(message) or [message]  # type: ignore[func-returns-value]
    cell.engine.forward(0, TOKENS[:1])
    attention, mlp = [message for message in sent if message[5] == 1][:2]
    worker = cell.workers[0]
    for number, message in enumerate((attention, mlp)):
        late = bytearray(message)
        struct.pack_into("<Q", late, 16, 900 + number)  # none that is remembered
        assert worker.accept(bytes(late))[0] == "compute"
        answer = worker.compute(bytes(late))
        assert (answer[7], len(answer)) == (4, 64)  # passed


def test_a_copy_of_a_probe_is_not_answered_twice(model: Model) -> None:
    cell = LocalCell(model, 1)
    sent: list[bytes] = []
    cell.fate = lambda message: sent.append(message) or [message, message]  # type: ignore[func-returns-value]
    cell.relay.probe(100, 100)
    assert [message[5] for message in sent] == [3, 4]


def test_a_context_may_be_larger_than_the_memory_and_costs_what_it_holds(tiny_model: TinyModel) -> None:
    """137 GB of caches for all of it. A token would cost 1 GB where huge pages are for whoever does not refuse them."""
    shape = Shape(n_layers=32, n_heads=8, n_kv_heads=8, head_dim=128)
    model, n_ctx = open_model(tiny_model("F32", shape)), 1 << 20
    engine = _native.Engine(model.native, n_ctx)
    engine.forward(0, np.arange(3, 6, dtype=np.int32), True)
    size = model.native.cache_bytes(n_ctx) >> 10
    mappings = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    (cache,) = (m for m in mappings if size <= kib(m, "Size") < 1.1 * size)
    assert kib(cache, "Rss") < 20_000, cache
    assert re.search(r"VmFlags:.*\bnh\b", cache), cache


def kib(mapping: str, what: str) -> int:
    found = re.search(rf"^{what}: +(\d+) kB$", mapping, re.MULTILINE)
    return int(found[1]) if found else 0
