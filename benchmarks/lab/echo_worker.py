"""The worker of echo.py, a script: ADDRESS PORT and, of request and reply, how many fragments of how many bytes."""

from __future__ import annotations

import socket
import sys


def main(host: str, port: str, *numbers: str) -> None:
    """Answer each complete request; the first four bytes of a fragment are the round's number."""
    asked, _, answered, answered_bytes = map(int, numbers)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((host, int(port)))
        number, seen = b"", 0
        while True:
            message, hub = own.recvfrom(2048)
            if not message:
                own.sendto(b"", hub)
                continue
            seen = seen + 1 if message[:4] == number else 1
            number = message[:4]
            if seen == asked:
                reply = number + bytes(answered_bytes - 4)
                for _ in range(answered):
                    own.sendto(reply, hub)


if __name__ == "__main__":
    main(*sys.argv[1:])
