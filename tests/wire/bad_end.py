"""A worker's end of a link, in Python: it seals well, and sends what it likes."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable

from halo import _native

Tamper = Callable[[bytes], bytes | None]
NAN = struct.pack("<f", float("nan"))


class BadEnd:
    """Answers the requests of one hub as `worker` does, but sends `tamper` of each answer (None: nothing)."""

    def __init__(self, worker: _native.Worker, tamper: Tamper) -> None:
        self.received = 0
        """Packets."""
        self._worker = worker
        self._tamper = tamper
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def serve(self, secret: bytes, hub: bytes, session: int, incarnation: str) -> None:
        """Answer the hub with this public key, in a thread, until `close`."""
        keys = _native.derive_keys(secret, hub, session, incarnation)
        channel = _native.Channel(
            keys["channel"], 1, keys["to_hub"], keys["iv_to_hub"], keys["to_worker"], keys["iv_to_worker"]
        )
        self._thread = threading.Thread(target=self._run, args=(channel,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def _run(self, channel: _native.Channel) -> None:
        hub, now = None, 1_000_000
        while not self._stop.is_set():
            now += 1000
            out = channel.work(now)
            if select.select([self._socket], [], [], 0.001)[0]:
                datagram, hub = self._socket.recvfrom(2048)
                self.received += 1
                for message in channel.receive(datagram, now)[0]:
                    answer = self._answer(message)
                    out += channel.send(answer, now) if answer is not None else []
            for datagram in out if hub else []:
                self._socket.sendto(datagram, hub)

    def _answer(self, message: bytes) -> bytes | None:
        verdict, answer = self._worker.accept(message)
        answer = self._worker.compute(message) if verdict == "compute" else answer
        return self._tamper(answer) if answer else None
