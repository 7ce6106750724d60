"""`f16` partials: half the bytes, rounded to 11 bits with a power of two for each row, always added in one order."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import Floats, LocalCell, alone, lossy, run
from tests.tiny_gguf import Shape

TOKENS = np.random.default_rng(1).integers(3, 320, 70).astype(np.int32)
NORMS = 64 + 4  # offset in a partial of one row


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("F32"))


def travelled(row: Floats) -> tuple[int, Floats]:
    """The exponent with which a row travels, and what arrives of it."""
    exponent, values = _native.encode_f16(row)
    _, arrived = _native.add_f16(values, exponent, np.zeros_like(row))
    return exponent, arrived


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 65504.0, 1e6, 1e30, 1e38])
@pytest.mark.parametrize("n", [1, 15, 64, 2050])
def test_a_row_keeps_eleven_bits_whatever_its_size(scale: float, n: int) -> None:
    row = (np.random.default_rng(n).uniform(-1, 1, n) * scale).astype(np.float32)
    exponent, arrived = travelled(row)
    assert np.abs(row).max() / 2.0**exponent <= 2**15
    assert np.all(np.abs(arrived - row) <= np.abs(row) * 2.0**-11 + np.abs(row).max() * 2.0**-40)
    if n > 1000:  # a rounding error is even over its range
        exact = row.astype(np.float64)
        assert np.linalg.norm(arrived - exact) < 2.5e-4 * np.linalg.norm(exact)


def test_a_massive_activation_leaves_the_small_values_of_its_row_their_bits() -> None:
    row = np.linspace(-1, 1, 64, dtype=np.float32)
    row[7] = 2.0**20
    _, arrived = travelled(row)
    assert arrived[7] == 2.0**20
    assert np.allclose(np.delete(arrived, 7), np.delete(row, 7), rtol=2**-11, atol=2**-20)


def test_zeros_subnormals_and_the_largest_numbers_are_carried() -> None:
    zeros = np.zeros(40, np.float32)
    exponent, arrived = travelled(zeros)
    assert exponent == 0 and np.array_equal(arrived, zeros)
    tiny = np.array([1e-45, -1e-40, 2e-38, 0.0], np.float32)
    exponent, arrived = travelled(tiny)
    assert exponent == -126 and np.allclose(arrived, tiny, rtol=2**-11, atol=0)
    large = np.array([1.7e38, -3.3e38, 1.0], np.float32)
    exponent, arrived = travelled(large)
    assert exponent == 113 and np.allclose(arrived[:2], large[:2], rtol=2**-11)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 13, 39])
def test_what_is_not_finite_stays_so_and_is_noticed(bad: float, place: int) -> None:
    row = np.ones(40, np.float32)
    row[place] = bad
    exponent, values = _native.encode_f16(row)
    finite, arrived = _native.add_f16(values, exponent, np.zeros(40, np.float32))
    assert exponent == 0 and not finite
    assert np.array_equal(arrived, row, equal_nan=True)
    assert _native.add_f16(_native.encode_f16(np.ones(40, np.float32))[1], 0, np.zeros(40, np.float32))[0]


@settings(max_examples=15, deadline=None)
@given(
    workers=st.sampled_from([1, 2, 4]),
    threads=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 69), max_size=5),
    max_message=st.sampled_from([2048, 65536]),
    seed=st.integers(0, 2**32),
)
def test_bits_depend_on_who_computes_what_and_on_nothing_else(
    model: Model, workers: int, threads: int, cuts: list[int], max_message: int, seed: int
) -> None:
    """Not on threads, on how a prompt is cut, or on what the network does."""
    plain = run(LocalCell(model, workers, partials="f16").engine, TOKENS)
    fate = lossy(seed, loss=0.01)
    cell = LocalCell(
        model, workers, threads=threads, partials="f16", fate=fate, re_request_s=0.0, max_message=max_message
    )
    assert np.array_equal(run(cell.engine, TOKENS, cuts), plain)


@pytest.mark.parametrize("partials", ["f16", "f32"])
def test_partials_are_added_in_the_order_of_the_requests(model: Model, partials: str) -> None:
    drawn = random.Random(3)

    class Shuffled(LocalCell):
        def _post(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
            answers = [(index, self.answer(index, message)) for index, _, message in messages]
            for index, answer in drawn.sample(answers, len(answers)):
                self.relay.deliver(index, answer)

    orders = [run(Shuffled(model, 4, partials=partials, max_message=1024).engine, TOKENS) for _ in range(4)]
    assert all(np.array_equal(logits, orders[0]) for logits in orders)


@pytest.mark.parametrize("scale", [1.0, 3e4])
def test_logits_are_those_of_f32_partials_within_f16s_rounding(tiny_model: TinyModel, scale: float) -> None:
    """Also where an MLP's output would overflow f16."""
    model = open_model(tiny_model("F32", Shape(down_scale=scale)))
    for hub_share in (None, 0.0):
        cells = [LocalCell(model, 3, partials=partials) for partials in ("f16", "f32")]
        for cell in cells:
            cell.engine.set_plan("even", hub_share)
        ours, exact = (run(cell.engine, TOKENS) for cell in cells)
        assert 0 < np.linalg.norm(ours - exact) < 2e-3 * np.linalg.norm(exact)


def test_half_the_bytes_come_back(model: Model) -> None:
    received = {}
    for partials in ("f16", "f32", "fixed"):
        cell = LocalCell(model, 1, partials=partials)
        cell.engine.set_plan("even", 0.0)
        cell.engine.forward(0, TOKENS[:1])
        _, worker = cell.engine.stats()["devices"]
        received[partials] = worker["bytes_received"]
    values = 2 * model.spec.n_layers * model.spec.d
    assert received["f32"] == received["fixed"] == received["f16"] + 2 * values


def spoilt(cell: LocalCell, place: int, data: bytes, part: int = 1) -> LocalCell:
    """The last worker's answers to one part's requests are changed at `place`."""
    answer = cell.answer

    def lie(index: int, message: bytes) -> bytes:
        reply = bytearray(answer(index, message))
        if index == len(cell.workers) - 1 and reply[36] == part:
            start = place if place >= 0 else len(reply) + place
            reply[start : start + len(data)] = data
        return bytes(reply)

    cell.answer = lie  # type: ignore[method-assign]
    return cell


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize(
    ("partials", "place", "data"),
    [
        *(("f32", -4, struct.pack("<f", value)) for value in (np.nan, np.inf, -np.inf)),
        *(("f16", -2, struct.pack("<e", value)) for value in (np.nan, np.inf, -np.inf)),
        *((partials, NORMS, struct.pack("<f", np.nan)) for partials in ("f32", "f16", "fixed")),
    ],
)
def test_an_answer_that_is_not_finite_expels_the_worker(
    model: Model, partials: str, place: int, data: bytes, part: int
) -> None:
    cell = spoilt(LocalCell(model, 2, partials=partials), place, data, part)
    cell.engine.set_plan("even", 0.0)
    want = alone(model, TOKENS[:1], partials)
    assert np.allclose(cell.engine.forward(0, TOKENS[:1], True), want, atol=0.1 * np.abs(want).max())
    assert expelled(cell, 1, "its answer holds values that are not finite")
    assert not expelled(cell, 0, "")


def expelled(cell: LocalCell, worker: int, why: str) -> bool:
    member = cell.relay.members()[worker]
    return member is not None and member["state"] == "expelled" and why in member["reason"]


@pytest.mark.parametrize("exponent", [-127, 114, 32767])
def test_an_exponent_that_no_row_has_expels_the_worker(model: Model, exponent: int) -> None:
    cell = spoilt(LocalCell(model, 1, partials="f16"), 64, struct.pack("<h", exponent))
    cell.engine.forward(0, TOKENS[:1])
    assert expelled(cell, 0, "wrong shape")


@pytest.mark.parametrize("hub_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("partials", ["fixed", "f32", "f16"])
@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.1.attn_output.weight"])
def test_a_damaged_model_is_named_and_no_worker_blamed(
    model: Model, tmp_path_factory: pytest.TempPathFactory, name: str, partials: str, hub_share: float
) -> None:
    damaged = bytearray(model.path.read_bytes())
    at = model.file.tensors[name].offset
    damaged[at : at + 4] = np.float32(np.nan).tobytes()
    path = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    path.write_bytes(damaged)
    cell = LocalCell(open_model(path), 2, partials=partials)
    cell.engine.set_plan("even", hub_share)
    for _ in range(2):
        with pytest.raises(_native.NativeError, match=r"layer 1 .*not finite: the model file may be damaged") as caught:
            cell.engine.forward(0, TOKENS[:3])
        assert not isinstance(caught.value, _native.WorkerLost)


def test_a_worker_with_another_models_shape_is_expelled(tiny_model: TinyModel, model: Model) -> None:
    """Its answers are well formed, for rows of another length and another number of groups."""
    other = open_model(tiny_model("F32", Shape(d=128, ff=320)))
    theirs: list[bytes] = []
    foreign = LocalCell(other, 1, partials="f16")
    answer = foreign.answer
    foreign.answer = lambda index, message: theirs.append(answer(index, message)) or theirs[-1]  # type: ignore[method-assign, func-returns-value]
    foreign.engine.forward(0, TOKENS[:1])
    cell = LocalCell(model, 1, partials="f16")
    cell.answer = lambda index, message: theirs[0]  # type: ignore[method-assign]
    cell.engine.forward(0, TOKENS[:1])
    assert expelled(cell, 0, "wrong shape")


@pytest.mark.parametrize("change", [-2, -1, 1, 2, 64])
def test_an_answer_of_the_wrong_size_expels_the_worker(model: Model, change: int) -> None:
    cell = LocalCell(model, 1, partials="f16")
    answer = cell.answer

    def resized(index: int, message: bytes) -> bytes:
        reply = answer(index, message)
        return reply[:change] if change < 0 else reply + bytes(change)

    cell.answer = resized  # type: ignore[method-assign]
    cell.engine.forward(0, TOKENS[:1])
    assert expelled(cell, 0, "wrong shape")
