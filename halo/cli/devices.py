"""`halo devices`: who is in a cell."""

from __future__ import annotations

import argparse
import asyncio
import json

from halo.cell.address import Address
from halo.cell.loop import errors_in_one_line
from halo.cell.topics import Topics
from halo.cell.view import View, look
from halo.cli.cell_view import as_json, as_text
from halo.cli.console import patience, say
from halo.cli.options import Commands, add_cell, command, need_broker
from halo.cli.watch import watch

_WHAT = "list who is in a cell, and how the hub reaches its workers"
_EXAMPLES = """\
  halo devices --broker mqtt://pi1
  halo devices --broker mqtt://pi1 --cell lab --json
  halo devices --broker mqtt://pi1 --watch      follow it, until Ctrl-C; with --json an object a line

LINK is what carries requests and partials: udp, with the worker's address and the cipher, or mqtt. The hub measures
links over udp: RTT and JITTER of packets in ms, LOSS on the way to the worker and back (of the last 2048), GOODPUT
(bytes of requests a second while any is under way).

With --watch also what each device has done since the session began: its SHARE of the group results, requests answered
LATE (half of them BY less than that), STAND-INS (requests that somebody else computed), the part of the sequence that
its CACHE has, fragments sent again on request (REPAIRS) and messages sent again because nothing was heard (TIMEOUTS).
STATE is stable, probation (it was late just now), away (it does not answer), gone or expelled; of others it is what
they say themselves.
"""
_BEAT_S = 1.5


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "devices", _WHAT, _EXAMPLES, run)
    add_cell(parser)
    parser.add_argument("--watch", action="store_true", help="follow the cell, each second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --watch one a line")


def run(args: argparse.Namespace) -> int:
    """Look, print, done; or print until Ctrl-C."""
    address, topics = Address.parse(need_broker(args)), Topics(args.cell)
    if args.watch:
        return watch(address, topics, as_lines_of_json=args.json)
    with patience(f"asking the broker at {address}"):
        view = asyncio.run(_look(address, topics))
    print(json.dumps(as_json(args.cell, view), indent=2) if args.json else as_text(args.cell, address, view))
    return 0


async def _look(address: Address, topics: Topics) -> View:
    errors_in_one_line(asyncio.get_running_loop(), say)
    return await look(address, topics, _BEAT_S, links=True)
