"""Kernels: every variant against exact arithmetic by the same loop, and the promise of equal bits."""

from __future__ import annotations

import importlib.util

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from halo import _native

Floats = NDArray[np.float32]

F32, F16, BF16 = 0, 1, 30
Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL = 2, 3, 6, 7, 8, 20
Q3_K, Q4_K, Q5_K, Q6_K, Q8_K = 11, 12, 13, 14, 15
# type: (values a block, bytes a block, format of the activations)
TYPES = {
    F32: (1, 4, F32), F16: (1, 2, F16), BF16: (1, 2, BF16), Q4_0: (32, 18, Q8_0), Q4_1: (32, 20, Q8_0),
    Q5_0: (32, 22, Q8_0), Q5_1: (32, 24, Q8_0), Q8_0: (32, 34, Q8_0), IQ4_NL: (32, 18, Q8_0),
    Q3_K: (256, 110, Q8_K), Q4_K: (256, 144, Q8_K), Q5_K: (256, 176, Q8_K), Q6_K: (256, 210, Q8_K),
}  # fmt: skip
VARIANTS = _native.variants()
# f16 scales inside a block
SCALES_AT = {
    Q4_0: [0], Q4_1: [0, 2], Q5_0: [0], Q5_1: [0, 2], Q8_0: [0], IQ4_NL: [0],
    Q3_K: [108], Q4_K: [0, 2], Q5_K: [0, 2], Q6_K: [208],
}  # fmt: skip

everywhere = pytest.mark.parametrize("isa", VARIANTS)
all_types = pytest.mark.parametrize("kind", TYPES)


def weights(kind: int, rows: int, columns: int, seed: int = 0) -> bytes:
    """Random blocks: every bit pattern of the quants, scales of both signs."""
    drawn = np.random.default_rng(seed)
    block, size, _ = TYPES[kind]
    if kind in (F32, F16, BF16):
        values = drawn.standard_normal((rows, columns)).astype(np.float32)
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType(kind)).tobytes()
    blocks = drawn.integers(0, 256, (rows * columns // block, size), np.uint8)
    for at in SCALES_AT[kind]:
        scale = (drawn.standard_normal(len(blocks)) * 0.1).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()


def exact(kind: int, data: bytes, rows: int) -> NDArray[np.float64]:
    """The values that the file's bytes stand for, by the gguf package."""
    values = gguf.quants.dequantize(np.frombuffer(data, np.uint8).reshape(rows, -1), gguf.GGMLQuantizationType(kind))
    return values.astype(np.float64)


def rounded(isa: str, kind: int, x: Floats) -> NDArray[np.float64]:
    """Activations as the product with `kind` sees them."""
    form = TYPES[kind][2]
    return _native.dequantize(form, _native.Kernels(isa).quantize(form, x)).reshape(x.shape).astype(np.float64)


def product(matrix: _native.Matrix, x: Floats, rows: range) -> Floats:
    y = np.full((len(x), len(rows)), np.nan, np.float32)
    matrix.multiply(matrix.prepare(x), rows.start, y)
    return y


def activations(rows: int, columns: int, seed: int = 1) -> Floats:
    x = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    x[:, : columns // 4] *= 30.0
    return x


@everywhere
@all_types
@pytest.mark.parametrize(("rows", "columns", "t"), [(1, 256, 1), (37, 512, 1), (48, 1280, 3), (16, 768, 33)])
def test_products_are_right_to_rounding(isa: str, kind: int, rows: int, columns: int, t: int) -> None:
    data = weights(kind, rows, columns)
    matrix = _native.Kernels(isa).pack(kind, rows, columns, data)
    x = activations(t, columns)
    w, seen = exact(kind, data, rows), rounded(isa, kind, x)
    error = np.abs(product(matrix, x, range(rows)) - seen @ w.T)
    assert (error <= 2e-6 * (np.abs(seen) @ np.abs(w).T) + 1e-30).all()


@all_types
def test_dequantised_values_are_those_of_gguf(kind: int) -> None:
    data = weights(kind, 3, 512)
    ours = _native.dequantize(kind, data)
    assert np.allclose(ours, exact(kind, data, 3).ravel(), rtol=1e-6, atol=0)


@settings(max_examples=150, deadline=None)
@given(
    isa=st.sampled_from(VARIANTS),
    kind=st.sampled_from(list(TYPES)),
    t=st.integers(1, 64),
    data=st.data(),
)
def test_a_result_depends_on_its_row_alone(isa: str, kind: int, t: int, data: st.DataObject) -> None:
    """T rows at once against one, a subset of rows against all."""
    columns = data.draw(st.integers(1, 1280 // max(TYPES[kind][0], 4))) * max(TYPES[kind][0], 4)
    begin = data.draw(st.integers(0, 39))
    some = range(begin, data.draw(st.integers(begin + 1, 40)))
    x = activations(t, columns, seed=t)
    matrix = _native.Kernels(isa).pack(kind, 40, columns, weights(kind, 40, columns, seed=t))
    y = product(matrix, x, some)
    row = data.draw(st.integers(0, t - 1))
    assert np.array_equal(y[row : row + 1], product(matrix, x[row : row + 1], some))
    assert np.array_equal(y, product(matrix, x, range(40))[:, some.start : some.stop])


@everywhere
@pytest.mark.parametrize("form", [F32, F16, BF16, Q8_0, Q8_K])
def test_every_variant_quantises_to_the_same_bytes(isa: str, form: int) -> None:
    x = activations(4, 1024)
    x[0, :256] = 0
    x[1, 256:512] = np.linspace(-127, 127, 256)  # halves among them
    x[2, 5], x[2, 300], x[3, 7] = np.nan, np.inf, 1e-42
    assert _native.Kernels(isa).quantize(form, x) == _native.Kernels("portable").quantize(form, x)


def extreme_weights(kind: int, rows: int, columns: int) -> bytes:
    """Blocks whose quants are all ones in the first row, all zeros in the second, ... : the ends of their range."""
    block, size, _ = TYPES[kind]
    blocks = np.empty((rows, columns // block, size), np.uint8)
    blocks[:] = np.resize(np.array([0xFF, 0x00, 0x80, 0x7F], np.uint8), rows)[:, None, None]
    for at in SCALES_AT[kind]:
        blocks[:, :, at : at + 2] = np.float16([0.25]).view(np.uint8)
    return blocks.tobytes()


@everywhere
@pytest.mark.parametrize("kind", SCALES_AT)
@pytest.mark.parametrize("t", [1, 9])
def test_the_ends_of_every_range_are_computed_right(isa: str, kind: int, t: int) -> None:
    """Weights of -128, and activations of -128, which no quantiser makes but a message may: they count as -127."""
    rows, columns = 20, 512
    form, kernels = TYPES[kind][2], _native.Kernels(isa)
    values = np.resize(np.array([-128, 127, -128, -127, -128], np.int8), columns)
    values[: columns // 2] = -128
    at, size = (2, 34) if form == Q8_0 else (4, 292)
    travels = np.zeros((columns // (32 if form == Q8_0 else 256), size), np.uint8)
    travels[:, :at] = (np.float16([1.0]) if form == Q8_0 else np.float32([1.0])).view(np.uint8)
    travels[:, at : at + columns // len(travels)] = values.view(np.uint8).reshape(len(travels), -1)
    x = kernels.prepare(form, columns, travels.tobytes() * t)
    assert np.array_equal(x, _native.Kernels("portable").prepare(form, columns, travels.tobytes() * t))

    data = extreme_weights(kind, rows, columns)
    y = np.empty((t, rows), np.float32)
    kernels.pack(kind, rows, columns, data).multiply(x, 0, y)
    truth = exact(kind, data, rows) @ np.maximum(values, -127).astype(np.float64)
    assert np.allclose(y, truth, rtol=1e-5, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("form", [Q8_0, Q8_K])
def test_quantising_is_as_precise_as_8_bits(form: int) -> None:
    x = activations(4, 1024)
    back = rounded("portable", {Q8_0: Q4_0, Q8_K: Q4_K}[form], x)
    step = np.abs(x.reshape(4, -1, {Q8_0: 32, Q8_K: 256}[form])).max(axis=-1, keepdims=True) / 127
    assert (np.abs(back - x).reshape(4, step.shape[1], -1) <= 0.503 * step + step * 2**-4).all()


@everywhere
def test_silu_has_the_same_bits_in_every_variant(isa: str) -> None:
    gate = np.concatenate([np.linspace(-100, 100, 1001), [0, -0.0, np.inf, -np.inf, np.nan]]).astype(np.float32)
    up = np.linspace(-3, 3, len(gate)).astype(np.float32)
    ours = _native.Kernels(isa).silu_mul(gate, up)
    assert np.array_equal(ours, _native.Kernels("portable").silu_mul(gate, up), equal_nan=True)
    truth = gate[:1001].astype(np.float64) / (1 + np.exp(-gate[:1001].astype(np.float64))) * up[:1001]
    assert np.allclose(ours[:1001], truth, rtol=1e-6, atol=1e-36)


def reference_attention(q: Floats, k: NDArray[np.float16], v: NDArray[np.float16], first: int) -> NDArray[np.float64]:
    out = np.zeros(q.shape)
    for t in range(len(q)):
        keys, values = k[: first + t + 1].astype(np.float64), v[: first + t + 1].astype(np.float64)
        scores = q[t].astype(np.float64) @ keys.T / np.sqrt(q.shape[2])
        w = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[t] = w / w.sum(axis=1, keepdims=True) @ values
    return out


@everywhere
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 64), (8, 64), (4, 128), (3, 40), (2, 8), (7, 80)])
@pytest.mark.parametrize(("first", "t"), [(0, 1), (63, 1), (64, 2), (0, 70), (200, 32)])
def test_attention_is_right_and_its_rows_do_not_see_each_other(
    isa: str, heads: int, head_dim: int, first: int, t: int
) -> None:
    drawn = np.random.default_rng(heads)
    q = (drawn.standard_normal((t, heads, head_dim)) * 3).astype(np.float32)
    k, v = drawn.standard_normal((2, first + t, head_dim)).astype(np.float16)
    kernels = _native.Kernels(isa)
    out = kernels.attention(q, k.view(np.uint16), v.view(np.uint16), first)
    assert np.allclose(out, reference_attention(q, k, v, first), rtol=1e-4, atol=2e-5)
    for row in {0, t // 2, t - 1}:
        seen = first + row + 1
        alone = kernels.attention(q[row : row + 1], k[:seen].view(np.uint16), v[:seen].view(np.uint16), seen - 1)
        assert np.array_equal(out[row], alone[0])
    single = kernels.attention(np.ascontiguousarray(q[:, :1]), k.view(np.uint16), v.view(np.uint16), first)
    assert np.array_equal(out[:, :1], single)


@everywhere
def test_fixed_sums_round_to_nearest_and_report_what_does_not_fit(isa: str) -> None:
    y = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 8388607.5, 3e7, 7.49, -1e9, 1e10, np.nan] + [1.0] * 20, np.float32)
    fits, squares, sums = _native.Kernels(isa).add_fixed(y, 1.0, 2.0**30)
    assert not fits and np.isnan(squares)
    assert sums[:11].tolist() == [0, 2, 2, 0, -2, 8388608, 30000000, 7, -1000000000, 0, 0]
    fits, squares, sums = _native.Kernels(isa).add_fixed(y[:9], 1.0, 2.0**30)
    assert fits and squares == pytest.approx(float((y[:9].astype(np.float64) ** 2).sum()))


def test_bad_shapes_are_refused() -> None:
    kernels = _native.Kernels(VARIANTS[0])
    for rows, columns, data in [(2, 33, bytes(100)), (0, 32, b""), (2, 32, bytes(35)), (2, 0, b""), (-1, 32, b"")]:
        with pytest.raises(ValueError, match=r"shape|truncated"):
            kernels.pack(Q4_0, rows, columns, data)
    for kind in (Q8_K, 9, 99, -1):
        with pytest.raises(ValueError, match="type"):
            kernels.pack(kind, 1, 256, bytes(292))
    matrix = kernels.pack(Q4_0, 20, 64, bytes(20 * 36))
    x = matrix.prepare(np.ones((2, 64), np.float32))
    for row, shape in [(1, (2, 20)), (-1, (2, 3)), (0, (1, 20))]:
        with pytest.raises(ValueError, match=r"slice|rows"):
            matrix.multiply(x, row, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="columns"):
        matrix.multiply(x[:, :48], 0, np.zeros((2, 20), np.float32))
    with pytest.raises(ValueError, match="aligned"):
        kernels.pack(Q4_0, 2, 32, memoryview(bytes(40))[1:])
    with pytest.raises(ValueError, match="blocks"):
        matrix.prepare(np.ones((2, 33), np.float32))
    for n, travels in [(64, bytes(67)), (64, b""), (33, bytes(34)), (0, b"")]:
        with pytest.raises(ValueError, match="blocks"):
            kernels.prepare(Q8_0, n, travels)
    with pytest.raises(ValueError, match="format"):
        kernels.prepare(Q4_0, 32, bytes(18))
    with pytest.raises(ValueError, match=r"known here: .*portable"):
        _native.Kernels("sse9")


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="compares with llama-cpp-python's ggml")
@everywhere
@pytest.mark.parametrize("kind", [F16, *SCALES_AT])
def test_errors_are_not_larger_than_llama_cpps(isa: str, kind: int) -> None:
    """Against exact products of the dequantised weights with the unrounded activations."""
    from halo.bench.ggml import Products, load_ggml

    ggml = load_ggml()
    if ggml is None:
        pytest.skip("another build of ggml than this knows")
    rows, columns = 512, 1024
    data = weights(kind, rows, columns)
    x = np.random.default_rng(2).standard_normal((8, columns)).astype(np.float32)
    truth = x.astype(np.float64) @ exact(kind, data, rows).T
    theirs = Products(ggml, ggml.ggml_backend_cpu_buffer_type(), kind, rows, [data], x)
    theirs.run()
    ours = product(_native.Kernels(isa).pack(kind, rows, columns, data), x, range(rows))
    assert np.linalg.norm(ours - truth) <= 1.02 * np.linalg.norm(theirs.result() - truth)
