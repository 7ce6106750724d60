"""A native module without arithmetic: the same calls and the same ways to fail, in a few lines of Python.

A message is session (8 bytes), request number (8 bytes), body; its reply is the same with the body reversed.
The body `slow` takes a second. A forward pass is two rounds for each token.
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


class NativeError(RuntimeError):
    pass


class WorkerLost(NativeError):
    worker = -1
    expelled = False


class Interrupted(NativeError):
    pass


class Model:
    """A text file is a model; equal texts have equal identities."""

    types = "F32"
    n_ctx_train = 64

    def __init__(self, path):
        self.path = Path(path)
        self.identity = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.name = self.path.stem
        self.native = self
        self.held = [(0, 0)] * LAYERS
        self.loads = []
        self.slow = float(dict(word.split("=") for word in self.path.read_text().split() if "=" in word).get("load", 0))

    def load(self, masks=None, progress=None, *, output=True):
        """A text with `load=2` in it takes two seconds."""
        masks = shard_masks(self, 0, 1) if masks is None else masks
        for done in range(20):
            time.sleep(self.slow / 20)
            if progress is not None:
                progress(done, 20)
        self.held = [(a | c, b | d) for (a, b), (c, d) in zip(self.held, masks, strict=True)]
        self.loads.append((masks, output))

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


class Relay:
    def __init__(self, session, workers, post, *, re_request_s=None, patience_s=4.0):
        self.session, self.workers, self.post = session, workers, post
        self.re_request_s, self.patience_s = re_request_s or 0.5, patience_s
        self.bad_messages = self.re_requests = 0
        self.gone = {}
        self.expelled = {}
        self.replies = {}
        self.heard = {}
        self.number = 0
        self.resident = {}
        self.news = threading.Condition()
        self.cancelled = False

    def deliver(self, worker, message):
        with self.news:
            if len(message) < _HEAD.size:
                self.bad_messages += 1
                return False
            session, number = _HEAD.unpack_from(message)
            if session != self.session or number != self.number:
                self.bad_messages += 1
                return False
            self.heard[worker] = time.monotonic()
            body = message[_HEAD.size :]
            if body != _COMPUTING:
                self.replies[worker] = body
            self.news.notify_all()
            return False

    def set_resident(self, index, masks):
        self.resident[index] = masks

    def links(self):
        return [{"offered": False, "alive": False}] * self.workers

    def lost(self, worker, reason):
        with self.news:
            self.gone[worker] = reason
            self.news.notify_all()

    def round(self, body):
        with self.news:
            self.number += 1
            self.replies = {}
            self.heard = dict.fromkeys(range(self.workers), time.monotonic())
            message = _HEAD.pack(self.session, self.number) + body
            self.post([(worker, 0, message) for worker in range(self.workers)])
            while len(self.replies) < self.workers:
                self._check()
                if not self.news.wait(self.re_request_s):
                    late = [w for w in range(self.workers) if w not in self.replies]
                    self.re_requests += len(late)
                    self.post([(worker, 1, message) for worker in late])
            return dict(self.replies)

    def probe(self, payload, reply_bytes, syncs):
        seconds = []
        for _ in range(syncs):
            start = time.perf_counter()
            self.round(bytes(payload))
            seconds.append(time.perf_counter() - start)
        return seconds

    def _check(self):
        if self.cancelled:
            self.cancelled = False
            raise Interrupted("cancelled")
        for worker in range(self.workers):
            silent = time.monotonic() - self.heard[worker] > self.patience_s and worker not in self.replies
            if worker in self.gone or worker in self.expelled or silent:
                reasons = self.expelled | self.gone
                error = WorkerLost(reasons.get(worker, f"worker {worker} has not answered for 4 s"))
                error.worker = worker
                error.expelled = worker in self.expelled
                raise error


class Engine:
    n_vocab = VOCAB

    def __init__(self, model, n_ctx, n_slots=1, threads=1, partials="fixed"):
        self.n_ctx = n_ctx
        self.past = [0] * n_slots
        self.relay = None
        self.body = b"body"
        self.reset_stats()

    def assign_evenly(self, hub_share=None):
        self.hub_share = hub_share

    def attach(self, relay):
        assert not any(self.past), "attached with positions that the workers do not have"
        self.relay = relay
        self.reset_stats()

    def forward(self, slot, tokens, all_logits=False):
        for _ in range(2 * len(tokens)):
            if self.relay is not None:
                replies = self.relay.round(self.body)
                assert set(replies.values()) == {self.body[::-1]}
            self.syncs += 1
        self.past[slot] += len(tokens)
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
        device = {"group_results": self.syncs, "requests": self.syncs, "messages_sent": self.syncs}
        device |= {
            "bytes_sent": 20 * self.syncs,
            "messages_received": self.syncs,
            "bytes_received": 30 * self.syncs,
        }
        hub = dict.fromkeys(device, 0) | {"group_results": self.syncs}
        workers = 0 if self.relay is None else self.relay.workers
        return {
            "tokens": self.syncs // 2,
            "syncs": self.syncs,
            "devices": [hub, *(dict(device) for _ in range(workers))],
        }

    def reset_stats(self):
        self.syncs = 0


class Worker:
    def __init__(self, model, threads=1, pace_us=0):
        self.pace_us = pace_us
        self.session = None
        self.computing = set()
        self.last = {}

    def open(self, session, n_ctx, n_slots):
        if n_ctx > 1 << 20:
            raise NativeError("out of memory")
        self.session = session
        self.computing, self.last = set(), {}

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
