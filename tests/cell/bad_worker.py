"""`bad_worker.py WAY` and the arguments of `halo worker`: a real worker but for its answers, over either carrier."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[2]))

from halo import _native
from halo.cli import execute, parser
from halo.cli.worker import run
from tests.wire.bad_end import NAN, BadEnd, Tamper

INFINITY = b"\0\0\x80\x7f"
WAYS: dict[str, Tamper] = {
    "short": lambda answer: answer[:-1],
    "long": lambda answer: answer + bytes(4),
    "nan": lambda answer: answer[:-4] + NAN,
    "inf": lambda answer: answer[:-4] + INFINITY,
    "version": lambda answer: answer[:4] + b"\x09" + answer[5:],
    "none": lambda answer: None,
}


class Worker:
    """What answers over MQTT."""

    def __init__(self, tamper, model, threads=1):
        self.native = _native.Worker(model, threads)
        self._tamper = tamper

    def __getattr__(self, name):
        return getattr(self.native, name)

    def compute(self, message):
        return self._tamper(self.native.compute(message)) or b""


class KeyPair:
    """One whose secret is known."""

    def __init__(self):
        self.secret = random.SystemRandom().randbytes(32)
        self.public = _native.open_key_of(self.secret)


class DatagramWorker:
    """What answers over datagrams, to one hub."""

    def __init__(self, tamper, worker, port=0):
        self._end = BadEnd(worker.native, tamper)
        self.port = self._end.port

    def serve(self, keys, hub, session, incarnation, cipher):
        self._end.serve(keys.secret, hub, session, incarnation)

    def close(self):
        """The link ends with the process."""

    def link(self):
        return {"packets": {"packets_received": self._end.received}}


if __name__ == "__main__":
    tamper = WAYS[sys.argv[1]]
    native = SimpleNamespace(
        **vars(_native)
        | {
            "Worker": lambda *arguments: Worker(tamper, *arguments),
            "DatagramWorker": lambda *arguments: DatagramWorker(tamper, *arguments),
            "KeyPair": KeyPair,
            "ciphers": lambda: ["chacha20-poly1305"],
        }
    )
    args = parser().parse_args(["worker", *sys.argv[2:]])
    sys.exit(execute(lambda: run(args, native=native)))
