"""The engine's behaviour at its edges: bad calls, cancelling, lost workers, figures, hostile messages."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone, arrives

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


def test_a_silent_worker_is_named_and_the_slot_keeps_its_positions(model: Model) -> None:
    cell = LocalCell(model, 2, patience_s=0.2, re_request_s=0.05)
    cell.engine.forward(0, TOKENS[:5])
    answer = cell.answer
    cell.answer = lambda index, message: answer(index, message) if index == 0 else b""  # type: ignore[method-assign]
    with pytest.raises(_native.WorkerLost, match="did not answer") as caught:
        cell.engine.forward(0, TOKENS[5:6])
    assert caught.value.worker == 1
    assert cell.engine.stats()["re_requests"] > 0
    assert cell.engine.n_past(0) == 5


def test_a_worker_that_is_computing_is_waited_for(model: Model) -> None:
    """Patience is about silence: a slow worker answers re-requests with `computing`."""
    cell = LocalCell(model, 1, patience_s=0.3, re_request_s=0.05)
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


def test_a_lost_worker_fails_the_next_forward_until_others_are_attached(model: Model) -> None:
    cell = LocalCell(model, 2)
    cell.engine.forward(0, TOKENS[:3])
    cell.relay.lost(1, "went away")
    with pytest.raises(_native.WorkerLost, match="went away"):
        cell.engine.forward(0, TOKENS[3:4])
    cell.engine.truncate(0, 0)
    cell.engine.attach(None)
    assert np.array_equal(cell.engine.forward(0, TOKENS, True), alone(model, TOKENS))


def test_a_worker_without_the_cache_refuses_instead_of_guessing(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.engine.forward(0, TOKENS[:5])
    cell.workers[0].open(cell.session, 256, 1)  # as after a restart
    with pytest.raises(_native.WorkerLost, match="cache misses"):
        cell.engine.forward(0, TOKENS[5:6])


def test_another_protocol_version_is_named(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.relay.deliver(0, b"HALO" + bytes([9]) + bytes(59))
    with pytest.raises(_native.WorkerLost, match="version 9"):
        cell.engine.forward(0, TOKENS[:1])


def test_an_answer_of_the_wrong_shape_expels_the_worker(model: Model) -> None:
    cell = LocalCell(model, 1)
    answer = cell.answer
    cell.answer = lambda index, message: answer(index, message)[:-4]  # type: ignore[method-assign]
    with pytest.raises(_native.WorkerLost, match="wrong shape"):
        cell.engine.forward(0, TOKENS[:1])


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
    with pytest.raises(_native.WorkerLost, match="wrong shape"):
        cell.engine.forward(0, TOKENS[:1])


def test_a_hub_that_was_busy_for_longer_than_its_patience_does_not_blame_the_worker(model: Model) -> None:
    cell = LocalCell(model, 1, patience_s=0.3, re_request_s=0.05)
    lost: list[bytes] = []

    def fate(message: bytes) -> list[bytes]:
        if not lost:
            lost.append(message)
            time.sleep(0.6)  # as the hub's own share would
            return []
        return [message]

    cell.fate = fate
    assert np.array_equal(cell.engine.forward(0, TOKENS[:1], True), alone(model, TOKENS[:1]))
    assert cell.engine.stats()["re_requests"] >= 1


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
    struct.pack_into("<I", request, 28, 999)  # the newest sync
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


def test_a_request_that_was_stuck_while_the_hub_went_on_is_not_computed(model: Model) -> None:
    cell = LocalCell(model, 1)
    sent: list[bytes] = []
    cell.fate = lambda message: sent.append(message) or [message]  # type: ignore[func-returns-value]
    cell.engine.forward(0, TOKENS[:1])
    requests = [message for message in sent if message[5] == 1]
    late = bytearray(requests[0])
    struct.pack_into("<Q", late, 16, 999)  # none that is remembered
    assert cell.workers[0].accept(bytes(late))[0] == "drop"
    newest = bytearray(requests[-1])
    struct.pack_into("<Q", newest, 16, 1000)
    assert cell.workers[0].accept(bytes(newest))[0] == "compute"


def test_a_copy_of_a_probe_is_not_answered_twice(model: Model) -> None:
    cell = LocalCell(model, 1)
    sent: list[bytes] = []
    cell.fate = lambda message: sent.append(message) or [message, message]  # type: ignore[func-returns-value]
    cell.relay.probe(100, 100)
    assert [message[5] for message in sent] == [3, 4]
