"""Sealing: the published vectors, keys that both ends share and nobody else, packets that open unchanged, and once."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo import _native

UNAVAILABLE = _native.sealing_unavailable()
needs_libcrypto = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
CHACHA, AES = 1, 2
CIPHERS = pytest.mark.parametrize("cipher", [CHACHA, AES])
P = 2**255 - 19


def x25519(scalar: bytes, point: bytes) -> bytes:
    """The function of RFC 7748 section 5, by the Montgomery ladder."""
    k = int.from_bytes(scalar, "little") & ~7 & (2**255 - 1) | 2**254
    u = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a, c * b
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = a * a * b * b % P, (a * a - b * b) * (a * a + 121665 * (a * a - b * b)) % P
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 of RFC 5869."""
    key = hmac.digest(salt, secret, hashlib.sha256)
    out = block = b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        out += block
    return out[:size]


def derived(own: bytes, peer: bytes, session: int, incarnation: str) -> dict[str, bytes | int]:
    """What wire/seal.h promises of derive_keys, computed here."""
    opens = sorted([x25519(own, BASE), peer])
    info = b"halo datagrams 1" + incarnation.encode() + opens[0] + opens[1]
    out = hkdf(x25519(own, peer), session.to_bytes(8, "little"), info, 92)
    return {
        "to_worker": out[:32],
        "to_hub": out[32:64],
        "iv_to_worker": out[64:76],
        "iv_to_hub": out[76:88],
        "channel": int.from_bytes(out[88:], "little"),
    }


BASE = (9).to_bytes(32, "little")
# RFC 7748, section 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_OPEN = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_OPEN = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def test_the_checking_functions_agree_with_the_rfcs() -> None:
    assert x25519(ALICE, BOB_OPEN) == x25519(BOB, ALICE_OPEN) == SHARED
    # RFC 5869, A.1
    out = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert out.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


@needs_libcrypto
def test_open_keys_are_those_of_rfc_7748() -> None:
    assert _native.open_key_of(ALICE) == ALICE_OPEN
    assert _native.open_key_of(BOB) == BOB_OPEN


@needs_libcrypto
def test_key_pairs_are_drawn_anew() -> None:
    pairs = [_native.make_key_pair() for _ in range(20)]
    assert len({secret for secret, _ in pairs}) == 20
    assert all(_native.open_key_of(secret) == public for secret, public in pairs)


@needs_libcrypto
@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1), st.text(max_size=80))
@settings(max_examples=20, deadline=None)
def test_both_ends_derive_the_keys_of_the_description(secret: bytes, session: int, incarnation: str) -> None:
    keys = _native.derive_keys(secret, ALICE_OPEN, session, incarnation)
    assert keys == derived(secret, ALICE_OPEN, session, incarnation)
    assert keys == _native.derive_keys(ALICE, _native.open_key_of(secret), session, incarnation)


@needs_libcrypto
def test_another_session_incarnation_or_peer_has_other_keys() -> None:
    every = [
        _native.derive_keys(ALICE, BOB_OPEN, 1, "boot"),
        _native.derive_keys(ALICE, BOB_OPEN, 2, "boot"),
        _native.derive_keys(ALICE, BOB_OPEN, 1, "boot2"),
        _native.derive_keys(ALICE, ALICE_OPEN, 1, "boot"),
    ]
    values = [keys[name] for keys in every for name in ("to_worker", "to_hub", "iv_to_worker", "iv_to_hub")]
    assert len(set(values)) == len(values)


LOW_ORDER = [
    (0).to_bytes(32, "little"),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (P - 1).to_bytes(32, "little"),
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
]


@needs_libcrypto
@pytest.mark.parametrize("peer", LOW_ORDER, ids=lambda peer: peer.hex()[:8])
def test_peer_keys_of_low_order_are_refused(peer: bytes) -> None:
    assert x25519(ALICE, peer) == bytes(32)
    for key in (peer, peer[:31] + bytes([peer[31] | 0x80])):
        with pytest.raises(_native.NativeError, match="low order"):
            _native.derive_keys(ALICE, key, 1, "boot")


@needs_libcrypto
def test_chacha20_poly1305_is_that_of_rfc_8439() -> None:
    # RFC 8439, section 2.8.2
    sealer = _native.Sealer(CHACHA, bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647"))
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = sealer.seal(0, bytes.fromhex("50515253c0c1c2c3c4c5c6c7"), text)
    assert sealed.hex() == (
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
        "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
    )


@needs_libcrypto
def test_the_nonce_is_made_as_in_quic() -> None:
    # RFC 9001, A.5: packet number 654360564 in the header 4200bff4
    key = bytes.fromhex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8")
    sealer = _native.Sealer(CHACHA, key, bytes.fromhex("e0459b3474bdd0e44a41c144"))
    sealed = sealer.seal(654360564, bytes.fromhex("4200bff4"), b"\x01")
    assert sealed.hex() == "655e5cd55c41f69080575d7999c25a5bfb"


@needs_libcrypto
def test_aes_256_gcm_is_that_of_its_authors() -> None:
    # McGrew and Viega, The Galois/Counter Mode of Operation, test case 16
    sealer = _native.Sealer(
        AES, bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2), bytes.fromhex("cafebabefacedbaddecaf888")
    )
    text = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = sealer.seal(0, bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), text)
    assert sealed.hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
    )


def sealer_of(cipher: int, seed: int = 1) -> _native.Sealer:
    drawn = random.Random(seed)
    return _native.Sealer(cipher, drawn.randbytes(32), drawn.randbytes(12))


@needs_libcrypto
@CIPHERS
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=40), st.binary(max_size=1300)), max_size=5),
    st.booleans(),
)
@settings(deadline=None)
def test_what_was_sealed_opens(cipher: int, packets: list[tuple[int, bytes, bytes]], in_place: bool) -> None:
    here, there = sealer_of(cipher), sealer_of(cipher)
    sealed = [here.seal(number, aad, data, in_place=in_place) for number, aad, data in packets]
    for (number, aad, data), packet in reversed(list(zip(packets, sealed, strict=True))):
        assert len(packet) == len(data) + 16
        assert there.open(number, aad, packet, in_place=in_place) == data


@needs_libcrypto
@CIPHERS
def test_any_flipped_bit_keeps_a_packet_shut(cipher: int) -> None:
    sealer = sealer_of(cipher)
    aad, data = b"header", b"a fragment"
    packet = sealer.seal(7, aad, data)
    for bit in range(8 * len(packet)):
        forged = bytearray(packet)
        forged[bit // 8] ^= 1 << bit % 8
        assert sealer.open(7, aad, bytes(forged)) is None
    for bit in range(8 * len(aad)):
        forged = bytearray(aad)
        forged[bit // 8] ^= 1 << bit % 8
        assert sealer.open(7, bytes(forged), packet) is None
    for bit in range(64):
        assert sealer.open(7 ^ 1 << bit, aad, packet) is None
    assert sealer.open(7, aad, packet) == data  # the forgeries have left nothing behind


@needs_libcrypto
@CIPHERS
def test_truncated_and_prolonged_packets_stay_shut(cipher: int) -> None:
    sealer = sealer_of(cipher)
    packet = sealer.seal(1, b"", b"data")
    for n in range(len(packet)):
        assert sealer.open(1, b"", packet[:n]) is None
    assert sealer.open(1, b"", packet + b"\0") is None
    assert sealer.open(1, packet[:1], packet[1:]) is None


@needs_libcrypto
@CIPHERS
def test_a_packet_sent_back_does_not_open(cipher: int) -> None:
    keys = _native.derive_keys(ALICE, BOB_OPEN, 1, "boot")
    to_worker = _native.Sealer(cipher, keys["to_worker"], keys["iv_to_worker"])
    to_hub = _native.Sealer(cipher, keys["to_hub"], keys["iv_to_hub"])
    assert to_hub.open(1, b"", to_worker.seal(1, b"", b"data")) is None


@needs_libcrypto
def test_the_other_cipher_does_not_open() -> None:
    assert sealer_of(AES).open(1, b"", sealer_of(CHACHA).seal(1, b"", b"data")) is None


@pytest.mark.parametrize(("name", "reason"), [("/nowhere/libcrypto.so", "/nowhere"), ("libm.so.6", "has no EVP_")])
def test_without_libcrypto_there_is_a_reason_and_nothing_is_sealed(name: str, reason: str) -> None:
    script = """
from halo import _native
print(_native.sealing_unavailable())
for attempt in (_native.make_key_pair, lambda: _native.Sealer(1, bytes(32), bytes(12)),
                lambda: _native.derive_keys(bytes(32), bytes(32), 1, "")):
    try:
        attempt()
    except _native.NativeError as error:
        assert "sealing is unavailable" in str(error), error
    else:
        raise AssertionError("sealed without libcrypto")
"""
    environment = {**os.environ, "HALO_LIBCRYPTO": name}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout and "apt install" in done.stdout


# ---- the replay window

SIZE = _native.ReplayWindow.SIZE


def test_the_window_holds_at_least_what_the_protocol_promises() -> None:
    assert SIZE >= 1024


@given(
    st.integers(0, 2**64 - 1),
    st.lists(
        st.one_of(st.integers(-3, 3), st.integers(-SIZE - 70, SIZE + 70), st.integers(-(2**40), 2**40)), max_size=300
    ),
)
@settings(deadline=None)
def test_the_window_tells_every_number_it_has_seen(start: int, steps: list[int]) -> None:
    window = _native.ReplayWindow()
    seen: set[int] = set()
    highest = 0
    for step in [0, *steps]:
        number = min(max((highest if seen else start) + step, 0), 2**64 - 1)
        assert window.is_new(number) == (number not in seen and (number > highest or highest - number < SIZE))
        window.mark(number)
        seen.add(number)
        highest = max(highest, number)
        assert window.highest == highest
        assert not window.is_new(number)


@pytest.mark.parametrize("start", [0, 1, 63, 64, 10**6])
def test_every_number_is_taken_once_in_any_order_within_the_window(start: int) -> None:
    window = _native.ReplayWindow()
    numbers = list(range(start, start + SIZE))
    random.Random(3).shuffle(numbers)
    for number in numbers:
        assert window.is_new(number)
        window.mark(number)
    assert not any(window.is_new(number) for number in numbers)
    assert window.is_new(start + SIZE)


def test_numbers_that_left_the_window_count_as_seen() -> None:
    window = _native.ReplayWindow()
    window.mark(SIZE)
    assert window.is_new(1) and not window.is_new(0)
    window.mark(0)
    assert window.is_new(SIZE + 1) and window.is_new(2)


def test_a_jump_forgets_what_the_ring_held() -> None:
    for jump in (1, 63, 64, 65, SIZE - 1, SIZE, SIZE + 63, SIZE + 64, 10 * SIZE, 2**63):
        window = _native.ReplayWindow()
        for number in range(SIZE):
            window.mark(number)
        high = SIZE - 1 + jump
        window.mark(high)
        for number in range(max(SIZE, high - SIZE + 1), high):
            assert window.is_new(number), (jump, number)


@needs_libcrypto
def test_a_key_of_which_no_secret_comes_is_refused_when_it_is_looked_at():
    own = _native.KeyPair()
    own.check(_native.KeyPair().public)
    with pytest.raises(_native.NativeError):
        own.check(bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        own.check(bytes(31))
