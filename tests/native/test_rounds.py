"""What happens in the middle of a round, or across the roll-back after it: no group is lost, nothing is waited for."""

from __future__ import annotations

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone, run
from tests.tiny_gguf import Shape

TOKENS = np.random.default_rng(4).integers(3, 320, 60).astype(np.int32)
_KIND, _STATUS, _PART, _REASON, _PAYLOAD = 5, 7, 36, 54, 56
_FILL, _RANGE, _REFUSED, _FAILED = 5, 1, 3, 4


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q8_0"))


def share(cell: LocalCell, worker: int = 0) -> float:
    member = cell.relay.members()[worker]
    assert member is not None
    return float(member["cache"])


def one_by_one(cell: LocalCell, tokens: np.ndarray) -> np.ndarray:
    return np.concatenate([cell.engine.forward(0, tokens[i : i + 1], True) for i in range(len(tokens))])


@pytest.mark.parametrize("how", ["leave", "forget"])
def test_who_goes_before_a_sync_is_repeated_takes_no_group_with_it(tiny_model: TinyModel, how: str) -> None:
    """The masks of a repeated sync are those of the first time, and so may name a worker that has gone since."""
    model = open_model(tiny_model("F32", Shape(down_scale=3e4)))
    cell = LocalCell(model, 2)
    gone: list[bool] = []

    def fate(message: bytes) -> list[bytes]:
        if message[_KIND] == 2 and message[_STATUS] == _RANGE and not gone:
            gone.append(True)
            if how == "leave":
                cell.relay.leave(0, "it went away")
            else:
                cell.relay.forget(0)
        return [message]

    cell.fate = fate
    logits = run(cell.engine, TOKENS[:10])
    assert gone
    assert np.array_equal(logits, alone(model, TOKENS[:10]))


def test_an_answer_that_a_roll_back_has_overtaken_leaves_no_hole_in_a_cache_for_ever(model: Model) -> None:
    cell = LocalCell(model, 1)
    one_by_one(cell, TOKENS[:12])
    held: list[bytes] = []
    cell.fate = lambda message: held.append(message) or []  # type: ignore[func-returns-value]
    one_by_one(cell, TOKENS[12:16])
    cell.engine.truncate(0, 14)
    cell.fate = lambda message: [message]
    for message in held:
        if answer := cell.answer(0, message):
            cell.relay.deliver(0, answer)
    one_by_one(cell, TOKENS[14:40])
    assert share(cell) == 1


def test_a_copy_of_rows_on_its_way_at_a_roll_back_is_sent_again(model: Model) -> None:
    cell = LocalCell(model, 1)
    one_by_one(cell, TOKENS[:20])
    cell.relay.forget(0)
    cell.workers[0] = _native.Worker(model.native)
    cell.workers[0].open(cell.session, 256, 1)
    cell.relay.join(None)
    cell.fate = lambda message: [] if message[_KIND] == _FILL else [message]
    one_by_one(cell, TOKENS[20:21])
    cell.engine.truncate(0, 20)
    cell.fate = lambda message: [message]
    logits = one_by_one(cell, TOKENS[20:45])
    assert share(cell) == 1
    assert np.array_equal(logits, alone(model, TOKENS[:45])[20:])


def refusal(answer: bytes) -> bytes:
    """The answer of a worker that had no memory for it."""
    refused = bytearray(answer[:64])
    refused[_STATUS] = _REFUSED
    refused[_REASON : _REASON + 2] = _FAILED.to_bytes(2, "little")
    refused[_PAYLOAD : _PAYLOAD + 4] = bytes(4)
    return bytes(refused)


@pytest.mark.parametrize("part", [0, 1])
def test_a_refused_request_is_not_owed_any_more_and_its_rows_are_copied(model: Model, part: int) -> None:
    cell = LocalCell(model, 1)
    one_by_one(cell, TOKENS[:12])
    refused: list[bool] = []

    def fate(message: bytes) -> list[bytes]:
        if message[_KIND] != 2 or message[_PART] != part or refused:
            return [message]
        refused.append(True)
        return [refusal(message)]

    cell.fate = fate
    one_by_one(cell, TOKENS[12:14])
    assert refused
    member = cell.relay.members()[0]
    assert member is not None
    assert member["owed"] == 0
    one_by_one(cell, TOKENS[14:20])
    assert share(cell) == 1
    assert cell.engine.stats()["devices"][1]["never"] == 0


def test_a_group_that_was_computed_twice_counts_once(model: Model) -> None:
    """Worker 0 answers after the hub has stood in for it, while worker 1, which is new, is still waited for."""
    cell = LocalCell(model, 2, re_request_s=0.02)
    one_by_one(cell, TOKENS[:12])
    per_token = sum(device["group_results"] for device in cell.engine.stats()["devices"]) // 12
    cell.relay.forget(1)
    cell.workers[1] = _native.Worker(model.native)
    cell.workers[1].open(cell.session, 256, 1)
    cell.relay.join(None)
    one_by_one(cell, TOKENS[12:13])
    cell.engine.reset_stats()
    held: list[bytes] = []
    released: list[bool] = []

    def post(messages: list[tuple[int, int, bytes]]) -> None:
        for index, attempt, message in messages:
            if released:
                cell.relay.deliver(index, cell.answer(index, message))
            elif index == 0:
                held.append(message)
            elif attempt > 0:
                released.append(True)
                cell.relay.deliver(0, cell.answer(0, held[0]))
                cell.relay.deliver(1, cell.answer(1, message))

    cell._post = post  # type: ignore[method-assign, assignment]
    one_by_one(cell, TOKENS[13:14])
    assert released
    assert sum(device["group_results"] for device in cell.engine.stats()["devices"]) == per_token


def test_nonsense_of_a_worker_that_was_forgotten_is_not_held_against_who_has_its_number(model: Model) -> None:
    cell = LocalCell(model, 1)
    one_by_one(cell, TOKENS[:8])
    replaced: list[bool] = []

    def post(messages: list[tuple[int, int, bytes]]) -> None:
        for index, _, message in messages:
            answer = cell.answer(index, message)
            if not answer or answer[_KIND] != 2 or not any(answer[40:48]) or replaced:
                cell.relay.deliver(index, answer)
                continue
            replaced.append(True)
            at = 64 + 4 * int.from_bytes(answer[52:54], "little")
            cell.relay.deliver(index, answer[:at] + np.float32(np.nan).tobytes() + answer[at + 4 :])
            cell.relay.forget(0)
            cell.workers[0] = _native.Worker(model.native)
            cell.workers[0].open(cell.session, 256, 1)
            assert cell.relay.join(None) == 0

    cell._post = post  # type: ignore[method-assign, assignment]
    logits = one_by_one(cell, TOKENS[8:12])
    assert replaced
    member = cell.relay.members()[0]
    assert member is not None
    assert member["state"] != "expelled"
    assert np.array_equal(logits, alone(model, TOKENS[:12])[8:])


def test_a_worker_follows_when_the_numbers_of_syncs_begin_anew(model: Model) -> None:
    """Otherwise nothing would ever be computed there again, after some weeks of generating."""
    cell = LocalCell(model, 1)
    sent: list[bytes] = []
    cell.fate = lambda message: sent.append(message) or [message]  # type: ignore[func-returns-value]
    cell.engine.forward(0, TOKENS[:1])
    (mlp, *_) = [message for message in sent if message[_KIND] == 1 and message[_PART] == 1]
    for syncs, passed in [((0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1), None), ((0, 0xFFFF_FFFF), 1)]:
        worker = _native.Worker(model.native)
        worker.open(cell.session, 256, 1)
        for number, sync in enumerate(syncs):
            request = bytearray(mlp)
            request[16:24] = (900 + number).to_bytes(8, "little")
            request[28:32] = sync.to_bytes(4, "little")
            assert worker.accept(bytes(request))[0] == "compute"
            assert worker.compute(bytes(request))[_STATUS] == (4 if number == passed else 0)


def test_a_worker_of_which_not_every_layer_is_known_holds_nothing_there(model: Model) -> None:
    cell = LocalCell(model, 1)
    cell.relay.set_resident(0, [(3, 3)])
    assert np.array_equal(run(cell.engine, TOKENS[:6]), alone(model, TOKENS[:6]))
    assert cell.engine.stats()["devices"][1]["group_results"] <= 4 * 6
