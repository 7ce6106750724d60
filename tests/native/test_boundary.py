"""What does not fit is refused where it comes in, with one exception that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel

Spec = dict[str, Any]
Tensors = dict[str, tuple[int, int, int, int]]
Change = Callable[[Spec, Tensors, list[list[int]], list[list[int]]], None]

ROWS, OFFSET, UP, WO = 1, 3, "blk.1.ffn_up.weight", "blk.0.attn_output.weight"


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q4_0"))


def tensors_of(model: Model) -> Tensors:
    table = {}
    for t in model.file.tensors.values():
        table[t.name] = (t.type, t.shape[1] if len(t.shape) > 1 else 1, t.shape[0], t.offset)
    return table


def native(model: Model, change: Change, file: Any = None) -> _native.Model:
    """The native model of `model`'s file, after a change to what it is told about it."""
    spec, tensors = asdict(model.spec), tensors_of(model)
    attention, mlp = [list(b) for b in model.grid.attention], [list(b) for b in model.grid.mlp]
    change(spec, tensors, attention, mlp)
    return _native.Model([file if file is not None else model.file.data], spec, tensors, attention, mlp)


def put(name: str, field: int, value: int) -> Change:
    """Change one field (type, rows, columns, offset) of a tensor's entry."""

    def change(spec: Spec, tensors: Tensors, attention: list[list[int]], mlp: list[list[int]]) -> None:
        entry = list(tensors[name])
        entry[field] = value
        tensors[name] = (entry[0], entry[1], entry[2], entry[3])

    return change


def dimension(key: str, value: float) -> Change:
    return lambda spec, tensors, attention, mlp: spec.__setitem__(key, value)


def grid(bounds: list[int], part: str = "mlp") -> Change:
    def change(spec: Spec, tensors: Tensors, attention: list[list[int]], mlp: list[list[int]]) -> None:
        (mlp if part == "mlp" else attention)[1] = bounds

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec, tensors, attention, mlp: tensors.pop(UP), "ffn_up.weight is missing"),
        (put(UP, 0, 9), "unknown type"),
        (put(UP, 0, 15), "impossible shape"),
        (put(UP, ROWS, 161), "has shape"),
        (put(UP, ROWS, 0), "impossible shape"),
        (put(UP, ROWS, 1 << 40), "impossible shape"),
        (put(UP, 2, 63), "impossible shape"),
        (put(UP, 2, 0), "impossible shape"),
        (put(UP, OFFSET, 1 << 40), "truncated"),
        (put(UP, OFFSET, 1), "not aligned"),
        (put("output_norm.weight", 0, 1), "must be F32"),
        (dimension("d", 0), "must be positive"),
        (dimension("n_kv_heads", 3), "multiple"),
        (dimension("rope_dims", 7), "rotary"),
        (dimension("norm_eps", float("nan")), "epsilon"),
        (dimension("n_layers", 4), "one entry per layer"),
        (grid([0, 16, 160]), "cuts a block"),
        (grid([0, 64]), "does not cover"),
        (grid([0, 160, 160]), "not in order"),
        (grid([0, 64, 32, 160]), "not in order"),
        (grid([]), "does not cover"),
        (grid([0, 1, 4], "attention"), "cuts a block"),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(model: Model, change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native(model, change)


def nothing(*_: object) -> None:
    """Change nothing."""


def test_a_file_that_is_cut_off_or_misaligned_in_memory_is_refused(model: Model) -> None:
    whole = bytes(model.file.data)
    native(model, nothing, whole)
    with pytest.raises(ValueError, match="truncated"):
        native(model, nothing, whole[:-1])
    with pytest.raises(ValueError, match="truncated"):
        native(model, nothing, b"")
    with pytest.raises(ValueError, match="not aligned"):
        native(model, nothing, memoryview(b"x" + whole)[1:])


def test_zero_rows_and_tokens_that_are_none_are_refused(model: Model) -> None:
    engine = _native.Engine(model.native, 16)
    for tokens, message in [([], "at least one token"), ([-1], "token"), ([model.spec.vocab], "token")]:
        with pytest.raises(ValueError, match=message):
            engine.forward(0, np.array(tokens, np.int32))
    assert engine.n_past(0) == 0
    kernels = _native.Kernels(_native.isa())
    matrix = kernels.pack(2, 4, 32, bytes(4 * 18))
    with pytest.raises(ValueError, match="rows"):
        matrix.prepare(np.empty((0, 32), np.float32))


def test_an_empty_mask_is_answered_and_fills_the_cache(model: Model) -> None:
    """An attention request without groups: nothing to compute, but positions to remember."""
    worker, answers, seen = _native.Worker(model.native), [], []
    worker.open(1, 16, 1)

    def post(messages: list[tuple[int, int, bytes]]) -> None:
        for _, _, message in messages:
            if message[36] == 0:  # attention: ask for no group
                message = message[:40] + bytes(8) + message[48:]
            seen.append(message)
            assert worker.accept(message)[0] == "compute"
            answers.append(worker.compute(message))
        raise RuntimeError("enough")

    engine = _native.Engine(model.native, 16)
    engine.set_plan("even")
    relay = _native.Relay(1, post)
    engine.attach(relay)
    relay.join(None)
    with pytest.raises(RuntimeError, match="enough"):
        engine.forward(0, np.array([5], np.int32))
    status, payload = answers[0][7], int.from_bytes(answers[0][56:60], "little")
    assert (status, payload, len(answers[0])) == (0, 0, 64 + 4)
