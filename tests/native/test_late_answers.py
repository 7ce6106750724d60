"""Relaxed syncs with workers: what is late is in the sum of its own sync as a mean, and in the next one's as itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import Floats, LocalCell
from tests.native.reference import Doubles, Reference
from tests.tiny_gguf import Shape

LAYERS, GROUPS, D = 5, 4, 64  # layers 1 to 3 may be relaxed
TOKENS = np.random.default_rng(5).integers(3, 320, 24).astype(np.int32)
FIRST = 4  # tokens before anything is late
_KIND, _FLAGS, _STATUS, _REQUEST, _LAYER, _MASK, _HEADER = 5, 6, 7, 16, 34, 40, 64
_COMPUTED, _RANGE, _TOLERANT = 0, 1, 2
Tables = list[tuple[Floats, Floats, Floats, Floats]]


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("F32", Shape(n_layers=LAYERS, ff=64)), mlp_groups=GROUPS)


@pytest.fixture(scope="module")
def tables() -> Tables:
    random = np.random.default_rng(3)

    def normal(*shape: int) -> Floats:
        return random.standard_normal(shape).astype(np.float32)

    return [(normal(GROUPS, D), normal(GROUPS, D), normal(GROUPS), np.abs(normal(GROUPS)) + 1) for _ in range(LAYERS)]


@dataclass
class Trouble:
    """Holds back what is answered to tolerant requests, as `choose` says, until the next sync begins or for good."""

    cell: LocalCell
    choose: Callable[[bytes], str]  # "pass", "late" or "never"
    late: dict[tuple[int, int], int] = field(default_factory=dict)  # groups by token and layer
    requests: int = 0  # that were late
    token: int = 0
    held: list[tuple[int, bytes]] = field(default_factory=list)
    misses: int = 0  # answers that are still to be dropped, whatever they are, to give the workers a bad name

    def post(self, messages: list[tuple[int, int, bytes]]) -> None:
        held, self.held = self.held, []
        for worker, message in held:
            self.cell.relay.deliver(worker, message)
        for worker, _, message in messages:
            answer = self.cell.answer(worker, message)
            if not answer:
                continue
            groups = int.from_bytes(answer[_MASK : _MASK + 8], "little")
            tolerant = bool(message[_FLAGS] & _TOLERANT)  # on a busy machine some are before anybody has a bad name
            if self.misses and groups and not tolerant and answer[_STATUS] == _COMPUTED:
                self.misses -= 1
                continue
            fate = self.choose(answer) if tolerant else "pass"
            if fate == "pass":
                self.cell.relay.deliver(worker, answer)
                continue
            layer = int.from_bytes(message[_LAYER : _LAYER + 2], "little")
            at = self.token, layer
            self.late[at] = self.late.get(at, 0) | groups
            self.requests += 1
            if fate == "late":
                self.held.append((worker, answer))


def cell_of(
    model: Model, tables: Tables, choose: Callable[[bytes], str], workers: int = 2, deadlines: bool = True
) -> Trouble:
    cell = LocalCell(model, workers, n_ctx=64, re_request_s=60, stand_ins=deadlines)
    cell.engine.set_tolerance(tables)
    cell.engine.set_quality(1.0)
    trouble = Trouble(cell, choose)
    cell._post = trouble.post  # type: ignore[method-assign, assignment]
    return trouble


def generate(trouble: Trouble, tokens: np.ndarray = TOKENS) -> Floats:
    """Logits of all tokens; at one of the first a worker is given a bad name."""
    logits = []
    for trouble.token, token in enumerate(tokens):
        trouble.misses = 1 if trouble.token == FIRST - 1 else 0
        logits.append(trouble.cell.engine.forward(0, [token]))
    return np.concatenate(logits)


def expected(model: Model, tables: Tables, late: dict[tuple[int, int], int], tokens: np.ndarray = TOKENS) -> Floats:
    calls = iter([(t, layer) for t in range(len(tokens)) for layer in range(LAYERS)])

    def outputs(layer: int, values: Doubles) -> tuple[Doubles, Doubles]:
        token, its_layer = next(calls)
        assert its_layer == layer
        these = [g for g in range(GROUPS) if late.get((token, layer), 0) >> g & 1]
        means = tables[layer][0][these].sum(axis=0).astype(np.float64)
        missing = values[these].sum(axis=0)
        return values.sum(axis=0) - missing + means, missing - means

    return Reference(model).forward(tokens, outputs)


def check(trouble: Trouble, model: Model, tables: Tables) -> dict[str, int]:
    """Generate; the logits must be those of the recorded lateness. Returns what was counted."""
    trouble.cell.engine.reset_stats()
    logits = generate(trouble)
    assert trouble.late
    np.testing.assert_allclose(logits, expected(model, tables, trouble.late), rtol=3e-3, atol=3e-3)
    counted: dict[str, int] = trouble.cell.engine.stats()["tolerance"]
    groups = sum(mask.bit_count() for mask in trouble.late.values())
    assert counted["late_groups"] == counted["corrected_groups"] == groups
    return counted


def test_a_late_answer_is_added_in_the_next_sync(model: Model, tables: Tables) -> None:
    trouble = cell_of(model, tables, lambda answer: "late")
    check(trouble, model, tables)
    devices = trouble.cell.engine.stats()["devices"][1:]
    assert sum(d["filled"] for d in devices) == trouble.requests
    assert sum(d["stand_ins"] for d in devices) <= 1  # for the bad name
    assert sum(d["late_requests"] for d in devices) > 0


def test_what_never_comes_is_computed_by_the_hub_in_the_next_sync(model: Model, tables: Tables) -> None:
    trouble = cell_of(model, tables, lambda answer: "never")
    check(trouble, model, tables)
    stats = trouble.cell.engine.stats()
    assert stats["stand_ins"] >= sum(d["filled"] for d in stats["devices"][1:]) > 0


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture_of_lateness_adds_up(model: Model, tables: Tables, seed: int) -> None:
    dice = random.Random(seed)
    trouble = cell_of(model, tables, lambda answer: dice.choice(["pass", "late", "never"]), workers=1 + seed % 3)
    check(trouble, model, tables)


def test_a_silent_worker_that_alone_holds_groups_is_asked_for_them_in_relaxed_syncs_and_not_waited_for(
    tiny_model: TinyModel, tables: Tables
) -> None:
    model = open_model(tiny_model("F32", Shape(n_layers=LAYERS, ff=64)), mlp_groups=GROUPS)
    attention = [(1 << len(bounds) - 1) - 1 for bounds in model.grid.attention]
    trouble = cell_of(model, tables, lambda answer: "never", workers=1)
    model.native.forget()
    model.native.load([(mask, 0b0011) for mask in attention])
    trouble.cell.relay.set_resident(0, [(mask, 0b1100) for mask in attention])
    deliver = trouble.post

    def post(messages: list[tuple[int, int, bytes]]) -> None:
        deliver([m for m in messages if trouble.token < FIRST or m[2][_FLAGS] & _TOLERANT])

    trouble.cell._post = post  # type: ignore[method-assign, assignment]
    check(trouble, model, tables)
    assert [trouble.late[FIRST, layer] for layer in range(1, LAYERS - 1)] == [0b1100] * (LAYERS - 2)
    assert trouble.cell.engine.stats()["devices"][1]["probations"] < len(trouble.late)


def test_a_cell_in_which_nobody_is_late_is_exact(model: Model, tables: Tables) -> None:
    trouble = cell_of(model, tables, lambda answer: "late", deadlines=False)  # the machine may be busy
    logits = np.concatenate([trouble.cell.engine.forward(0, [token]) for token in TOKENS])
    assert not trouble.late
    exact = LocalCell(model, 0, n_ctx=64).engine
    assert np.array_equal(logits, np.concatenate([exact.forward(0, [token]) for token in TOKENS]))


@pytest.mark.parametrize("how", ["range", "nan", "shape", "twice", "other"])
def test_a_late_answer_that_cannot_be_used_is_stood_in_for(model: Model, tables: Tables, how: str) -> None:
    trouble = cell_of(model, tables, lambda answer: "late")
    deliver = trouble.post

    def spoil(answer: bytes) -> bytes:
        changed = bytearray(answer)
        if how == "range":
            changed[_STATUS] = _RANGE
            changed[_HEADER + 2] = 1
            del changed[_HEADER + 4 + 4 * int.from_bytes(answer[_MASK : _MASK + 8], "little").bit_count() :]
            changed[56:60] = (0).to_bytes(4, "little")
        elif how == "nan":
            changed[_HEADER + 4 : _HEADER + 8] = np.float32(np.nan).tobytes()
        elif how == "shape":
            changed[_LAYER] ^= 1
        elif how == "other":  # an answer to something that was never asked
            changed[_REQUEST + 6] ^= 0x55
        return bytes(changed)

    def post(messages: list[tuple[int, int, bytes]]) -> None:
        trouble.held = [(w, spoil(a)) for w, a in trouble.held for _ in range(1 + (how == "twice"))]
        deliver(messages)

    trouble.cell._post = post  # type: ignore[method-assign, assignment]
    check(trouble, model, tables)


@pytest.mark.parametrize("how", ["leave", "forget"])
def test_a_worker_that_goes_while_it_is_carried_takes_nothing_with_it(model: Model, tables: Tables, how: str) -> None:
    trouble = cell_of(model, tables, lambda answer: "never")
    deliver = trouble.post
    gone: list[int] = []

    def post(messages: list[tuple[int, int, bytes]]) -> None:
        for worker, _, message in messages:
            if trouble.late and not gone and not message[_FLAGS] & _TOLERANT:  # the sync after the first late one
                gone.append(worker)
                trouble.cell.relay.leave(0, "test") if how == "leave" else trouble.cell.relay.forget(0)
        deliver(messages)

    trouble.cell._post = post  # type: ignore[method-assign, assignment]
    check(trouble, model, tables)
    assert gone


def test_a_worker_that_is_forgotten_before_its_late_request_is_carried_takes_nothing_with_it(
    model: Model, tables: Tables
) -> None:
    """From then on nothing but the request knows of it."""

    def choose(answer: bytes) -> str:
        trouble.cell.relay.forget(0)
        return "never"

    trouble = cell_of(model, tables, choose)
    check(trouble, model, tables)
    assert trouble.cell.relay.members()[0] is None


def test_a_cancelled_token_leaves_nothing_that_is_carried(model: Model, tables: Tables) -> None:
    def choose(answer: bytes) -> str:
        trouble.choose = lambda answer: "late"
        trouble.cell.engine.cancel()
        return "late"

    trouble = cell_of(model, tables, choose)
    with pytest.raises(_native.Interrupted):
        generate(trouble)
    assert trouble.cell.engine.n_past(0) == trouble.token
    trouble.cell.engine.truncate(0, 0)
    trouble.late = {}
    check(trouble, model, tables)
