"""The packets of a data connection: what a broker sees, and what becomes of whatever a broker may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo.cell.address import Address
from halo.exchange import codec

MESSAGES = st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=40), st.binary(max_size=400)), max_size=6)


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_messages_arrive_however_the_stream_is_cut(messages: list[tuple[str, bytes]], cuts: list[int]) -> None:
    stream = b"".join(codec.publish(topic, payload) for topic, payload in messages)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    reader = codec.Reader()
    got = [packet for a, b in zip([0, *ends], ends, strict=False) for packet in reader.feed(stream[a:b])]
    assert got == [(codec.PUBLISH, topic, payload) for topic, payload in messages]


@pytest.mark.parametrize("size", [0, 127, 128, 16383, 16384, 65600])
def test_lengths_of_one_to_three_bytes(size: int) -> None:
    assert codec.Reader().feed(codec.publish("", bytes(size))) == [(codec.PUBLISH, "", bytes(size))]


@given(data=st.binary(max_size=200))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    try:
        for kind, _, payload in codec.Reader().feed(data):
            assert 0 <= kind < 16 and len(payload) <= len(data)
    except codec.NotMqtt:
        pass


def test_what_comes_after_a_message_that_is_too_long_is_read_and_the_long_one_is_not_kept() -> None:
    reader = codec.Reader()
    stream = codec.publish("long", bytes(3 << 20)) + codec.publish("t", b"x")
    got = []
    for at in range(0, len(stream), 1 << 16):
        got += reader.feed(stream[at : at + (1 << 16)])
        assert len(reader._rest) < 1 << 17
    assert got == [(codec.PUBLISH, "t", b"x")]


def test_a_length_without_an_end_and_a_topic_longer_than_its_packet_are_refused() -> None:
    for data in (b"\x30\xff\xff\xff\xff", b"\x30\x02\x00\x09"):
        with pytest.raises(codec.NotMqtt):
            codec.Reader().feed(data)


def test_a_message_that_is_retained_or_of_another_quality_is_left_out() -> None:
    assert codec.Reader().feed(b"\x31\x03\x00\x01a" + b"\x32\x05\x00\x01a\x00\x01") == []


def test_the_login_travels() -> None:
    packet = codec.connect("me", Address("broker", 1883, user="ü", password="p"), 5)
    assert packet[9] == 0xC2 and packet.endswith(b"\x00\x02me\x00\x02\xc3\xbc\x00\x01p")
