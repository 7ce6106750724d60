"""A worker whose pace may be changed while it serves, a script: every line of standard input is a new pace.

A line is two whole numbers: microseconds a request, and a group. The worker leaves when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading

from halo.cell.address import Address
from halo.cell.native import load
from halo.cell.worker import WorkerService, WorkerWish
from halo.model import open_model

_LEAVE_S = 2.5


def main() -> None:
    parser = argparse.ArgumentParser(description="A worker whose standard input sets its pace.")
    parser.add_argument("broker", help="its URL")
    parser.add_argument("name", help="of this device in the cell 'halo'")
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("pace", type=int, nargs=2, metavar="US", help="of a request, and of each group of it")
    args = parser.parse_args()
    asyncio.run(_serve(args))


async def _serve(args: argparse.Namespace) -> None:
    wish = WorkerWish(Address.parse(args.broker), name=args.name, wait=True)
    service = WorkerService(open_model(args.model), wish, load(), lambda line: print(line, flush=True))
    service.set_pace(*args.pace)
    threading.Thread(target=_listen, args=(service,), daemon=True).start()
    await service.serve()


def _listen(service: WorkerService) -> None:
    for line in sys.stdin:
        service.set_pace(*map(int, line.split()))
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Timer(_LEAVE_S, os._exit, (1,)).start()


if __name__ == "__main__":
    main()
