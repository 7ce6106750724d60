"""`halo worker`: lend this device to a cell."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Any

from halo.cell import native as native_module
from halo.cell.address import Address
from halo.cell.native import Native, OpenModel
from halo.cell.worker import WorkerService, WorkerWish
from halo.cli.console import say, size
from halo.cli.options import (
    Commands,
    add_cell,
    add_model,
    add_pace,
    add_pace_group,
    amount,
    command,
    need_broker,
    within,
)
from halo.limits import LIMITS

_WHAT = "lend this device to a cell: it computes a share of every layer for the cell's hub"
_EXAMPLES = """\
  halo worker --broker mqtt://pi1 -m tinyllama-q8_0.gguf
  halo worker --broker mqtts://me:secret@broker.example --cell lab --name pi2 -t 4 -m model.gguf
  HALO_BROKER=mqtt://pi1 halo worker              the demo model

The file must be the same as the hub's. Ctrl-C, SIGTERM or a terminal that is closed: it leaves the cell in order.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "worker", _WHAT, _EXAMPLES, run)
    add_cell(parser)
    add_model(parser)
    parser.add_argument("--name", help="this device's name in the cell (default: host name and four digits)")
    parser.add_argument("-t", "--threads", type=within("n_threads"), metavar="N", help="threads (default: all cores)")
    parser.add_argument(
        "--wait", action="store_true", help="keep trying until the broker is there (default: give up after 5 s)"
    )
    parser.add_argument(
        "--udp-port",
        type=within("udp_port"),
        default=0,
        metavar="N",
        help="where the hub's datagrams arrive, so that a firewall rule can name it (default: 0, any that is free)",
    )
    parser.add_argument(
        "--memory",
        type=amount,
        metavar="SIZE",
        help="the most that this process may take, as 1500M or 1.5G; weights that do not fit are refused before any is "
        "loaded (default: what is free then, without swapping)",
    )
    add_pace(parser, "a request takes at least so many microseconds, the rest slept: for measuring")
    add_pace_group(parser, "and so many for each group it asks for")
    parser.add_argument("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)


def run(
    args: argparse.Namespace,
    native: Native | None = None,
    open_model: Callable[[Any], OpenModel] | None = None,
) -> int:
    """Serve until told to stop. `native` and `open_model` are for tests."""
    threads = args.threads or min(len(os.sched_getaffinity(0)), int(LIMITS["n_threads"].high))
    wish = WorkerWish(
        Address.parse(need_broker(args)),
        cell=args.cell,
        name=args.name,
        threads=threads,
        exit_with_parent=args.exit_with_parent,
        wait=args.wait,
        pace_us=args.pace,
        pace_group_us=args.pace_group,
        udp_port=args.udp_port,
        memory=args.memory,
    )
    model = (open_model or _open)(args.model)
    say(f"started: model {model.name} ({model.types}, {size(model.size)})")
    asyncio.run(_serve(model, wish, native or native_module.load()))
    return 0


async def _serve(model: OpenModel, wish: WorkerWish, native: Native) -> None:
    await WorkerService(model, wish, native, say).serve()
    say("left the cell")


def _open(path: str | None) -> OpenModel:
    from halo.model import demo_model, open_model

    model = open_model(path or demo_model())
    model.converted.tell(say)
    return model
