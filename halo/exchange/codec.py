"""The few MQTT 3.1.1 packets that a data connection needs: everything at QoS 0, nothing retained.

Numbers in brackets are sections of the MQTT 3.1.1 specification (OASIS).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from halo.cell.address import Address

CONNACK, PUBLISH, SUBACK, PINGRESP = 2, 3, 9, 13
"""What a broker sends us: the upper half of a packet's first byte (2.2.1)."""
REFUSED = 0x80
"""What stands in a SUBACK for a topic that the broker refuses (3.9.3)."""

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
_LONGEST = 1 << 20
"""Bytes; more than any message of ours has, so it is not even kept."""


class NotMqtt(ConnectionError):
    """What comes is not MQTT."""


def connect(client_id: str, address: Address, keepalive_s: int) -> bytes:
    """A packet that asks for a clean session (3.1)."""
    flags = 0x02 | (0x80 if address.user is not None else 0) | (0x40 if address.password is not None else 0)
    texts = [client_id, *(text for text in (address.user, address.password) if text is not None)]
    body = _text("MQTT") + bytes((4, flags)) + struct.pack(">H", keepalive_s) + b"".join(map(_text, texts))
    return b"\x10" + _length(len(body)) + body


def subscribe(topics: Iterable[str], number: int) -> bytes:
    """A packet that subscribes at QoS 0 (3.8)."""
    body = struct.pack(">H", number) + b"".join(_text(topic) + b"\0" for topic in topics)
    return b"\x82" + _length(len(body)) + body


def unsubscribe(topic: str, number: int) -> bytes:
    """The opposite (3.10)."""
    body = struct.pack(">H", number) + _text(topic)
    return b"\xa2" + _length(len(body)) + body


def publish(topic: str, payload: bytes) -> bytes:
    """A message at QoS 0 (3.3)."""
    name = _text(topic)
    return b"".join((b"\x30", _length(len(name) + len(payload)), name, payload))


class Reader:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[int, str, bytes]]:
        """The packets that are whole now: (kind, topic, payload); the topic is empty in all but PUBLISH.

        Raises NotMqtt. A message that is retained, very long, or of another QoS than 0, is left out: none of ours is.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        data = self._rest + data if self._rest else data
        packets = []
        at = 0
        while (found := _packet(data, at)) is not None:
            begin, end = found
            first = data[at]
            if end - begin > _LONGEST:
                self._skip = max(end - len(data), 0)
            elif end > len(data):
                break
            elif first >> 4 != PUBLISH:
                packets.append((first >> 4, "", data[begin:end]))
            elif first == PUBLISH << 4:
                split = begin + 2 + int.from_bytes(data[begin : begin + 2], "big")
                if split > end:
                    raise NotMqtt("a topic is longer than its packet")
                packets.append((PUBLISH, data[begin + 2 : split].decode("utf-8", "replace"), data[split:end]))
            at = end
        self._rest = data[at:]
        return packets


def _packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` begins and will end; None where its length is not there yet (2.2.3)."""
    length = shift = 0
    for begin in range(at + 1, min(at + 5, len(data))):
        byte = data[begin]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (begin + 1, begin + 1 + length)
        shift += 7
    if shift == 28:
        raise NotMqtt("the length of a packet has no end")
    return None


def _length(length: int) -> bytes:
    out = bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data
