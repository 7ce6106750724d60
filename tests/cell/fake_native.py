"""A native module without arithmetic: the same calls and the same ways to fail, in a few lines of Python.

A message is session (8 bytes), request number (8 bytes), body; its reply is the same with the body reversed.
The body `slow` takes a second. A forward pass is two rounds for each token. Every member is asked in each round; a
stable one is waited for until its answer is overdue, then the hub stands in for it, and it is on probation until it
answers anything. Who says nothing for longer is away.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

VOCAB = 16
LAYERS = 2
_HEAD = struct.Struct("<QQ")
_COMPUTING = b"computing"
_TRAFFIC = ("messages_sent", "bytes_sent", "messages_received", "bytes_received")


class NativeError(RuntimeError):
    pass


class WorkerLost(NativeError):
    worker = -1


class Interrupted(NativeError):
    pass


class Model:
    """A text file is a model; equal texts have equal identities, also where they differ in a word `content=...`."""

    types = "F32"
    n_ctx_train = 64

    def __init__(self, path):
        self.path = Path(path)
        text = self.path.read_text()
        words = dict(word.split("=") for word in text.split() if "=" in word)
        self.identity = hashlib.sha256(text.partition(" content=")[0].encode()).hexdigest()
        self.content = hashlib.sha256(words.get("content", "").encode()).hexdigest()
        self.name = self.path.stem
        self.size = self.path.stat().st_size
        self.native = self
        self.held = [(0, 0)] * LAYERS
        self.loads = []
        self.slow = float(words.get("load", 0))

    def load(self, masks=None, progress=None, *, output=True):
        """A text with `load=2` in it takes two seconds."""
        masks = shard_masks(self, 0, 1) if masks is None else masks
        for done in range(20):
            time.sleep(self.slow / 20)
            if progress is not None:
                progress(done, 20)
        self.held = [(a | c, b | d) for (a, b), (c, d) in zip(self.held, masks, strict=True)]
        self.loads.append((masks, output))

    def weight_bytes(self, masks, *, output=True):
        return sum(a.bit_count() + b.bit_count() for a, b in masks) << 20

    def held_bytes(self):
        return self.weight_bytes(self.held)

    def cache_bytes(self, positions):
        return positions << 10

    def forget(self):
        self.held = [(0, 0)] * LAYERS

    def resident(self):
        return self.held


def shard_masks(model, index, of):
    """As the native one, with 4 groups a part."""
    masks = [sum(1 << g for g in range(4) if (g * of // 4 + layer) % of == index) for layer in range(LAYERS)]
    return [(mask, mask) for mask in masks]


def share_masks(model, share):
    return [((1 << int(4 * share)) - 1,) * 2] * LAYERS


class Member:
    def __init__(self, offer):
        self.offer = offer
        self.state, self.reason, self.since = "stable", "", time.monotonic()
        self.packets = 0
        self.counts = dict.fromkeys(("group_results", "requests", *_TRAFFIC, "late_requests", "stand_ins"), 0)
        self.counts["late"] = [0] * 10
        self.oldest = None

    def turn(self, state, reason=""):
        if self.state != state and self.state != "expelled":
            self.state, self.reason, self.since = state, reason, time.monotonic()

    def answered(self, owes_more):
        self.oldest = time.monotonic() if owes_more else None
        self.counts["messages_received"] += 1
        self.counts["bytes_received"] += 30  # not what is sent, so that a test can tell them apart
        if self.state in ("probation", "away"):
            self.turn("stable")


class Relay:
    """`overdue_s` and `away_s` are the whole of its deadlines. `calls` is what Python has told it."""

    overdue_s = 0.25
    away_s = 0.8
    socket_trouble = ""

    def __init__(self, session, post, *, max_message=65536, re_request_s=None, patience_s=4.0):
        self.session, self.post = session, post
        self.re_request_s, self.patience_s = re_request_s or 0.2, patience_s
        self.bad_messages = self.re_requests = self.stand_ins = 0
        self.table = []
        self.calls = []
        self.replies = {}
        self.number = 0
        self.resident = {}
        self.news = threading.Condition()
        self.cancelled = False
        self.opened = False

    # ---- the membership

    def open_datagrams(self, own, only):
        assert not self.table and not self.opened
        if self.socket_trouble:
            raise NativeError(self.socket_trouble)
        self.opened = True

    def join(self, offer, *, resident=None):
        with self.news:
            assert offer is None or self.opened
            index = self.table.index(None) if None in self.table else len(self.table)
            self.table[index:] = [Member(offer), *self.table[index + 1 :]]
            if resident is not None:
                self.resident[index] = resident
            self.calls.append(("join", index))
            return index

    def leave(self, index, reason):
        with self.news:
            assert self.table[index].state != "gone"
            self.table[index].turn("gone", reason)
            self.calls.append(("leave", index))
            self.news.notify_all()

    def rejoin(self, index):
        with self.news:
            assert self.table[index].state == "gone"
            self.table[index].turn("probation")
            self.table[index].oldest = None
            self.calls.append(("rejoin", index))

    def forget(self, index):
        with self.news:
            assert self.table[index].state in ("gone", "expelled")
            counts, self.table[index] = self.table[index].counts, None
            self.calls.append(("forget", index))
            self.news.notify_all()
            return counts

    def expel(self, index, reason):
        """For tests: its answers cannot be used."""
        with self.news:
            self.table[index].turn("expelled", reason)

    def members(self):
        now = time.monotonic()
        with self.news:
            return [
                m and {"state": m.state, "reason": m.reason, "for_s": now - m.since, "cache": 1.0, "owed": 0}
                for m in self.table
            ]

    def links(self):
        return [
            m
            and {
                "offered": m.offer is not None,
                "alive": m.offer is not None and self.reaches(m),
                "address": "192.0.2.2:40000",
                "rtt_ms": 4.0,
                "jitter_ms": 0.5,
                "loss_to": 0.0,
                "loss_from": 0.0,
                "goodput": 1e6,
                "packets": {"repairs": 0, "timeouts": 0, "packets_received": m.packets},
            }
            for m in self.table
        ]

    def reaches(self, member):
        """For tests: whether datagrams are answered."""
        return True

    def update_candidates(self, index, candidates):
        self.calls.append(("update", index, candidates))

    # ---- the exchange

    def deliver(self, index, message):
        with self.news:
            member = self.table[index] if index < len(self.table) else None
            if member is None or len(message) < _HEAD.size:
                self.bad_messages += 1
                return False
            session, number = _HEAD.unpack_from(message)
            if session != self.session or number > self.number or member.state in ("gone", "expelled"):
                self.bad_messages += 1
                return False
            body = message[_HEAD.size :]
            if body == _COMPUTING:
                member.oldest = time.monotonic()
            else:
                if number == self.number:
                    member.counts["group_results"] += 1
                    self.replies[index] = body
                member.answered(owes_more=index not in self.replies)  # where this was of an earlier round
            self.news.notify_all()
            return False

    def set_resident(self, index, masks):
        self.resident[index] = masks

    def waited_for(self):
        return [i for i, m in enumerate(self.table) if m and m.state == "stable" and i not in self.replies]

    def round(self, body):
        """Ask everyone, and wait for those that are stable; returns their answers."""
        with self.news:
            self.number += 1
            self.replies = {}
            now = time.monotonic()
            message = _HEAD.pack(self.session, self.number) + body
            asked = [i for i, m in enumerate(self.table) if m and m.state in ("stable", "probation", "away")]
            for index in asked:
                member = self.table[index]
                member.oldest = member.oldest or now
                member.counts["requests"] += 1
                member.counts["messages_sent"] += 1
                member.counts["bytes_sent"] += len(message)
            self.post([(index, 0, message) for index in asked])
            begin = again = now
            while waiting := self.waited_for():
                self._check()
                self.news.wait(0.02)
                now = time.monotonic()
                if now - again > self.re_request_s:
                    again = now
                    self.re_requests += len(waiting)
                    self.post([(index, 1, message) for index in waiting])
                if now - begin > self.overdue_s:
                    self._stand_in(now)
            self._look(time.monotonic())
            return dict(self.replies)

    def _stand_in(self, now):
        for index in self.waited_for():
            member = self.table[index]
            if now - member.oldest > self.overdue_s:
                self.stand_ins += 1
                member.counts["stand_ins"] += 1
                member.counts["late_requests"] += 1
                member.counts["late"][5] += 1
                member.turn("probation")

    def _look(self, now):
        for member in self.table:
            if member and member.state == "probation" and member.oldest and now - member.oldest > self.away_s:
                member.turn("away")

    def probe(self, payload, reply_bytes, syncs):
        seconds = []
        for _ in range(syncs):
            start = time.perf_counter()
            asked = [i for i, m in enumerate(self.table) if m and m.state not in ("gone", "expelled")]
            missing = set(asked) - set(self.round(bytes(payload)))
            if missing:
                error = WorkerLost("it has not answered for 4 s")
                error.worker = min(missing)
                raise error
            seconds.append(time.perf_counter() - start)
        return seconds

    def _check(self):
        if self.cancelled:
            self.cancelled = False
            raise Interrupted("cancelled")


class Engine:
    n_vocab = VOCAB

    def __init__(self, model, n_ctx, n_slots=1, threads=1, partials="fixed"):
        self.n_ctx = n_ctx
        self.past = [0] * n_slots
        self.relay = None
        self.body = b"body"
        self.syncs = 0

    def set_plan(self, name, hub_share=None, seed=None):
        self.plan, self.hub_share = name, hub_share

    def attach(self, relay):
        assert self.relay is None and not any(self.past)
        self.relay = relay

    def forward(self, slot, tokens, all_logits=False):
        past = self.past[slot]
        if self.relay is not None:
            self.relay.cancelled = False
        for _ in range(2 * len(tokens)):
            if self.relay is not None:
                replies = self.relay.round(self.body)
                assert set(replies.values()) <= {self.body[::-1]}
            self.syncs += 1
        self.past[slot] = past + len(tokens)
        return np.zeros((len(tokens) if all_logits else 1, VOCAB), dtype=np.float32)

    def truncate(self, slot, n):
        self.past[slot] = min(self.past[slot], n)

    def n_past(self, slot):
        return self.past[slot]

    def cancel(self):
        if self.relay is not None:
            with self.relay.news:
                self.relay.cancelled = True
                self.relay.news.notify_all()

    def stats(self):
        members = [] if self.relay is None else self.relay.table
        hub = {"group_results": self.syncs, "requests": self.syncs}
        return {
            "tokens": self.syncs // 2,
            "syncs": self.syncs,
            "stand_ins": 0 if self.relay is None else self.relay.stand_ins,
            "devices": [hub, *(m and dict(m.counts) for m in members)],
        }

    def reset_stats(self):
        self.syncs = 0


class Worker:
    def __init__(self, model, threads=1):
        self.paces = (0, 0)
        self.session = None
        self.computing = set()
        self.last = {}

    def open(self, session, n_ctx, n_slots):
        if n_ctx > 1 << 20:
            raise NativeError("out of memory")
        self.session = session
        self.computing, self.last = set(), {}

    def set_pace(self, per_request_us, per_group_us):
        self.paces = (per_request_us, per_group_us)

    def close(self):
        self.session = None

    def accept(self, message):
        if len(message) < _HEAD.size or self.session is None:
            return "drop", b""
        session, number = _HEAD.unpack_from(message)
        if session != self.session:
            return "drop", b""
        if number in self.last:
            return "answer", self.last[number]
        if number in self.computing:
            return "answer", message[: _HEAD.size] + _COMPUTING
        self.computing.add(number)
        return "compute", b""

    def compute(self, message):
        body = message[_HEAD.size :]
        if body == b"slow":
            time.sleep(1.0)
        reply = message[: _HEAD.size] + body[::-1]
        self.last[_HEAD.unpack_from(message)[1]] = reply
        return reply

    def stats(self):
        return {}


NATIVE = SimpleNamespace(
    NativeError=NativeError,
    WorkerLost=WorkerLost,
    Interrupted=Interrupted,
    Engine=Engine,
    Relay=Relay,
    Worker=Worker,
    shard_masks=shard_masks,
    share_masks=share_masks,
    isa=lambda: "fake",
    sealing_unavailable=lambda: "this native module is a fake",
)
