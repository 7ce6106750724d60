"""Datagrams over real sockets: strangers change no text, and a worker that answers badly is expelled."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import alone
from tests.wire.bad_end import NAN, BadEnd, Tamper
from tests.wire.datagram_cell import CIPHER, SESSION, DatagramCell, eventually

pytestmark = pytest.mark.skipif(_native.sealing_unavailable() is not None, reason=str(_native.sealing_unavailable()))
TOKENS = np.random.default_rng(5).integers(3, 320, 40).astype(np.int32)
SOME = 20  # datagrams of each kind


@pytest.fixture
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q8_0"))


class Between:
    """Somebody on the way between hub and worker: it forwards, and sends what it likes to both."""

    def __init__(self) -> None:
        self.hub_side, self.worker_side = _socket(), _socket()
        self.stranger = _socket()
        self.worker: tuple[str, int] | None = None
        self.hub: tuple[str, int] | None = None
        self.hostile = False
        self.attacks = 0
        self._random = random.Random(1)
        self._seen: dict[socket.socket, list[bytes]] = {self.hub_side: [], self.worker_side: []}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def candidates(self, number: int, port: int) -> list[tuple[str, int]]:
        self.worker = ("127.0.0.1", port)
        return [self.hub_side.getsockname()]

    def __enter__(self) -> Between:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for each in (self.hub_side, self.worker_side, self.stranger):
            each.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for ready in select.select([self.hub_side, self.worker_side], [], [], 0.05)[0]:
                datagram, source = ready.recvfrom(2048)
                if ready is self.hub_side:
                    self.hub = source
                self._forward(ready, datagram)
                if self.hostile:
                    self._attack(ready)

    def _forward(self, came_in: socket.socket, datagram: bytes) -> None:
        self._seen[came_in] = [*self._seen[came_in][-200:], datagram]
        going, target = self._way(came_in)
        if target is not None:
            going.sendto(datagram, target)

    def _way(self, came_in: socket.socket) -> tuple[socket.socket, tuple[str, int] | None]:
        return (self.worker_side, self.worker) if came_in is self.hub_side else (self.hub_side, self.hub)

    def _attack(self, came_in: socket.socket) -> None:
        going, target = self._way(came_in)
        drawn, one = self._random, self._random.choice(self._seen[came_in])
        at = drawn.randrange(len(one))
        flipped = bytearray(one)
        flipped[at] ^= 1 << drawn.randrange(8)
        hostile = [
            one,
            bytes(flipped),
            one[:at],
            one[:30],
            one + b"\0",
            drawn.randbytes(drawn.choice([0, 11, 1200, 9000])),
        ]
        hostile.append(one[:4] + drawn.randbytes(5) + bytes(3) + one[12:])  # under a number that is new
        for datagram in [*hostile, drawn.randbytes(4) + one[4:]]:
            for source in (going, self.stranger):
                source.sendto(datagram, target or ("127.0.0.1", 9))
                self.attacks += 1


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


@contextlib.contextmanager
def flood(*ports: int) -> Iterator[Callable[[], int]]:
    """Garbage to these ports, as fast as it goes."""
    stop, sent = threading.Event(), [0]

    def run() -> None:
        drawn = random.Random(2)
        garbage = cycle([drawn.randbytes(size) for size in (0, 3, 12, 200, 1200, 1500)])
        with _socket() as source:
            while not stop.is_set():
                for port in ports:
                    with contextlib.suppress(OSError):
                        source.sendto(next(garbage), ("127.0.0.1", port))
                    sent[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: sent[0]
    finally:
        stop.set()
        thread.join()


def generate(cell: DatagramCell) -> np.ndarray:
    """The logits of a prompt and of some tokens after it, one by one."""
    parts = [TOKENS[:20], *np.split(TOKENS[20:], 20)]
    return np.concatenate([cell.engine.forward(0, part, True) for part in parts])


def has_counted(link: Callable[[], dict[str, Any]]) -> bool:
    """Whether one end has seen some of each kind of attack, and still knows where the other one is."""
    kinds = ("forged", "replayed", "malformed")
    return eventually(lambda: min(link()["packets"][kind] for kind in kinds) > SOME) and bool(link()["address"])


def test_replays_forgeries_and_garbage_change_nothing_but_counters(model: Model) -> None:
    with Between() as between:
        cell = DatagramCell(model, 1, addresses=between.candidates, only=True)
        assert cell.links_stand()
        between.hostile = True
        logits = generate(cell)
        between.hostile = False
        assert np.array_equal(logits, alone(model, TOKENS))
        assert between.attacks > SOME
        assert has_counted(lambda: cell.link(0))
        assert has_counted(cell.ends[0].link)
        assert eventually(lambda: cell.relay.strays()["foreign"] > SOME)
        assert eventually(lambda: cell.ends[0].link()["foreign"] > SOME)
        assert cell.engine.stats()["bad_messages"] == cell.workers[0].stats()["bad_messages"] == 0


def test_a_flood_of_garbage_changes_no_text(model: Model) -> None:
    cell = DatagramCell(model, 2)
    assert cell.links_stand()
    hub = int(cell.ends[0].link()["address"].rpartition(":")[2])
    with flood(hub, *(end.port for end in cell.ends)) as sent:
        logits = generate(cell)
        assert eventually(lambda: sent() > 1000)
    assert np.array_equal(logits, alone(model, TOKENS))
    assert cell.relay.strays()["foreign"] > SOME
    assert cell.engine.stats()["bad_messages"] == 0
    assert cell.links_stand()


def test_a_worker_of_another_session_is_not_heard(model: Model) -> None:
    """Its keys are others, although it is reached, and answers at the same port."""
    cell = DatagramCell(model, 1, addresses=lambda number, port: [("127.0.0.1", port)])
    assert cell.links_stand()
    cell.ends[0].serve(_native.KeyPair(), _native.KeyPair().public, SESSION + 1, "1", CIPHER)
    assert np.array_equal(generate(cell), alone(model, TOKENS))  # over the other way, once datagrams are not answered
    assert cell.posted > 0
    assert cell.ends[0].link()["foreign"] > 0


# ---- workers that seal well, and answer badly


class BadWorker:
    """Speaks the protocol as a worker does, and sends `tamper` of each answer."""

    def __init__(self, model: Model, tamper: Tamper) -> None:
        self._hub = _native.KeyPair()
        worker = _native.Worker(model.native)
        worker.open(SESSION, 64, 1)
        self._end = BadEnd(worker, tamper)
        self._secret = random.Random(3).randbytes(32)
        self._offer = (_native.open_key_of(self._secret), "bad", CIPHER, [("127.0.0.1", self._end.port)])

    def engine(self, model: Model, partials: str, *, stand_ins: bool = False) -> tuple[_native.Engine, _native.Relay]:
        """A hub that this one works for."""
        relay = _native.Relay(SESSION, lambda messages: None, stand_ins=stand_ins)
        relay.open_datagrams(self._hub, True)
        engine = _native.Engine(model.native, 64, partials=partials)
        engine.set_plan("even")
        engine.attach(relay)
        relay.join(self._offer)
        return engine, relay

    def __enter__(self) -> BadWorker:
        self._end.serve(self._secret, self._hub.public, SESSION, "bad")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()


def _at(offset: int, value: bytes) -> Tamper:
    return lambda answer: answer[:offset] + value + answer[offset + len(value) :]


def _of_other_width(answer: bytes) -> bytes:
    """As a model with half of the values a row would: well-formed."""
    (d,), (rows,) = struct.unpack_from("<I", answer, 48), struct.unpack_from("<H", answer, 52)
    payload = rows * d // 2 * 4
    whole = answer[: len(answer) - payload]
    return whole[:48] + struct.pack("<I", d // 2) + whole[52:56] + struct.pack("<I", payload) + whole[60:]


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda answer: answer[:-1], "wrong shape"),
        (lambda answer: answer + bytes(4), "wrong shape"),
        (lambda answer: answer[:64], "wrong shape"),
        (_of_other_width, "wrong shape"),
        (_at(34, b"\x01\x00"), "wrong shape"),  # of another layer
        (_at(8, b"\0"), "no message of this session"),
        (lambda answer: answer[:63], "no message of this session"),
        (lambda answer: b"", "no message of this session"),
        (_at(4, b"\x09"), "protocol version 9"),
        (lambda answer: answer[:-4] + NAN, "not finite"),
        (lambda answer: answer[:68] + NAN + answer[72:], "not finite"),  # a norm
    ],
)
def test_a_worker_that_answers_badly_is_expelled_with_a_reason(model: Model, tamper: Tamper, reason: str) -> None:
    with BadWorker(model, tamper) as bad:
        engine, relay = bad.engine(model, "f32")
        logits = engine.forward(0, TOKENS[:1])
        assert np.allclose(logits, alone(model, TOKENS[:1], "f32"), atol=1e-3)
        member = relay.members()[0]
        assert member is not None
        assert member["state"] == "expelled"
        assert reason in member["reason"]


def test_a_worker_that_lives_and_answers_nothing_is_stood_in_for(model: Model) -> None:
    """Its acknowledgements are no answers: nobody waits for it for ever."""
    with BadWorker(model, lambda answer: None) as bad:
        engine, relay = bad.engine(model, "fixed", stand_ins=True)
        assert np.array_equal(engine.forward(0, TOKENS[:1]), alone(model, TOKENS[:1]))
        assert relay.members()[0]["state"] == "probation"  # type: ignore[index]


def test_a_good_worker_of_this_kind_is_not(model: Model) -> None:
    with BadWorker(model, lambda answer: answer) as good:
        engine, _ = good.engine(model, "fixed")
        assert np.array_equal(engine.forward(0, TOKENS[:1]), alone(model, TOKENS[:1]))
        assert engine.stats()["devices"][1]["group_results"] > 0


# ---- places


def test_a_worker_is_looked_for_where_it_is_said_to_be_now(model: Model) -> None:
    with _socket() as nobody:
        cell = DatagramCell(model, 1, addresses=lambda number, port: [nobody.getsockname()])
        assert not cell.link(0)["alive"]
        cell.relay.update_candidates(0, [("127.0.0.1", cell.ends[0].port)])
        assert cell.links_stand()
        assert cell.link(0)["address"] == f"127.0.0.1:{cell.ends[0].port}"


def test_the_port_is_that_which_is_asked_for_and_one_that_is_taken_is_named(model: Model) -> None:
    first = _native.DatagramWorker(_native.Worker(model.native))
    port = first.port
    with pytest.raises(_native.NativeError, match=f"port {port}: .*in use"):
        _native.DatagramWorker(_native.Worker(model.native), port)
    del first
    assert _native.DatagramWorker(_native.Worker(model.native), port).port == port


def test_more_workers_than_a_mask_has_bits_are_refused() -> None:
    relay = _native.Relay(SESSION, lambda messages: None)
    assert [relay.join(None) for _ in range(64)] == list(range(64))
    with pytest.raises(ValueError, match="64"):
        relay.join(None)
