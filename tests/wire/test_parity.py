"""The erasure code: any k of k + m fragments restore the message, parity 0 is the XOR, and every CPU's way agrees."""

from __future__ import annotations

import functools
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native

MAX_PARITY, MAX_DATA = 8, 240


def product(a: int, b: int) -> int:
    """a * b in GF(256) modulo 0x11d, bit by bit."""
    result = 0
    while b:
        if b & 1:
            result ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11D
        b >>= 1
    return result


def xor(fragments: list[bytes]) -> bytes:
    return bytes(functools.reduce(lambda a, b: a ^ b, column) for column in zip(*fragments, strict=True))


def encoded(data: list[bytes], m: int) -> list[bytes]:
    return data + [_native.parity(data, i) for i in range(m)]


def without(fragments: list[bytes], lost: set[int]) -> list[bytes | None]:
    return [None if i in lost else fragment for i, fragment in enumerate(fragments)]


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[bytes], int, random.Random]:
    """Data fragments, the number of parities, and a source of erasures."""
    k = draw(st.one_of(st.integers(1, 12), st.integers(1, MAX_DATA)))
    m = draw(st.integers(0, MAX_PARITY))
    size = draw(st.integers(0, 130))
    drawn = random.Random(draw(st.integers(0, 2**32)))
    return [drawn.randbytes(size) for _ in range(k)], m, drawn


@given(messages())
@settings(max_examples=300, deadline=None)
def test_any_k_fragments_restore_the_message(message: tuple[list[bytes], int, random.Random]) -> None:
    data, m, drawn = message
    k = len(data)
    lost = set(drawn.sample(range(k + m), drawn.randint(0, m)))
    assert _native.restore(without(encoded(data, m), lost), k, len(data[0])) == data


@given(messages())
@settings(max_examples=50, deadline=None)
def test_fewer_than_k_fragments_restore_nothing(message: tuple[list[bytes], int, random.Random]) -> None:
    data, m, drawn = message
    k = len(data)
    lost = set(drawn.sample(range(k + m), m + 1))
    assert _native.restore(without(encoded(data, m), lost), k, len(data[0])) is None


def test_every_erasure_pattern_of_small_messages() -> None:
    drawn = random.Random(1)
    for k in range(1, 7):
        data = [drawn.randbytes(19) for _ in range(k)]
        for m in range(6):
            fragments = encoded(data, m)
            for count in range(m + 1):
                for lost in itertools.combinations(range(k + m), count):
                    assert _native.restore(without(fragments, set(lost)), k, 19) == data, (k, m, lost)


def test_the_longest_message_survives_the_loss_of_any_eight_neighbours() -> None:
    drawn = random.Random(2)
    data = [drawn.randbytes(33) for _ in range(MAX_DATA)]
    fragments = encoded(data, MAX_PARITY)
    for first in range(0, MAX_DATA, 7):
        lost = set(range(first, first + MAX_PARITY))
        assert _native.restore(without(fragments, lost), MAX_DATA, 33) == data


@given(messages())
@settings(max_examples=50, deadline=None)
def test_parity_0_is_the_xor_of_the_data(message: tuple[list[bytes], int, random.Random]) -> None:
    data = message[0]
    assert _native.parity(data, 0) == xor(data)


def test_coefficients_are_those_of_the_description() -> None:
    """Both ends may run different versions on different CPUs: the bytes are part of the protocol."""
    inverse = {a: b for a in range(1, 256) for b in range(1, 256) if product(a, b) == 1}
    for j in (0, 1, 7, 100, MAX_DATA - 1):
        data = [b"\x01" if i == j else b"\x00" for i in range(MAX_DATA)]
        y = MAX_PARITY + j
        for i in range(MAX_PARITY):
            assert _native.parity(data, i) == bytes([product(y, inverse[i ^ y])])


def test_a_parity_does_not_depend_on_how_many_fragments_follow() -> None:
    data = [bytes([i]) * 5 for i in range(1, 6)]
    assert _native.parity(data, 3) == _native.parity([*data, bytes(5)], 3)


@pytest.mark.parametrize("isa", _native.field_ways())
def test_every_way_multiplies_by_every_factor(isa: str) -> None:
    every = bytes(range(256))
    for factor in range(256):
        expected = bytes(product(factor, x) for x in every)
        assert _native.field_multiply_add(isa, factor, every, bytes(256)) == expected


@given(st.integers(0, 255), st.binary(max_size=200), st.randoms())
@settings(deadline=None)
def test_every_way_adds_the_same_to_what_is_there(factor: int, data: bytes, drawn: random.Random) -> None:
    out = drawn.randbytes(len(data))
    expected = bytes(o ^ product(factor, x) for o, x in zip(out, data, strict=True))
    for isa in _native.field_ways():
        assert _native.field_multiply_add(isa, factor, data, out) == expected
