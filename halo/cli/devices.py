"""`halo devices`: who is in a cell."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from halo.cell.address import Address
from halo.cell.loop import errors_in_one_line
from halo.cell.messages import Profile
from halo.cell.topics import Topics
from halo.cell.view import View, look
from halo.cli.console import patience, say, size
from halo.cli.options import Commands, add_cell, command, need_broker

_WHAT = "list who is in a cell"
_EXAMPLES = """\
  halo devices --broker mqtt://pi1
  halo devices --broker mqtt://pi1 --cell lab --json
"""
_BEAT_S = 1.5


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "devices", _WHAT, _EXAMPLES, run)
    add_cell(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Look, print, done."""
    address, topics = Address.parse(need_broker(args)), Topics(args.cell)
    with patience(f"asking the broker at {address}"):
        view = asyncio.run(_look(address, topics))
    print(json.dumps(_as_json(args.cell, view), indent=2) if args.json else _as_text(args.cell, address, view))
    return 0


async def _look(address: Address, topics: Topics) -> View:
    errors_in_one_line(asyncio.get_running_loop(), say)
    return await look(address, topics, _BEAT_S)


def _as_json(cell: str, view: View) -> dict[str, Any]:
    return {
        "cell": cell,
        "hub": None if view.lease is None else _hub(view),
        "devices": [_device(view, p) for _, p in sorted(view.roster.profiles.items())],
        "ignored": view.roster.ignored,
    }


def _hub(view: View) -> dict[str, Any]:
    lease = view.lease
    assert lease is not None
    return {
        "name": lease.hub,
        "alive": view.beating,
        "session": lease.session,
        "model": lease.model.name,
        "n_ctx": lease.n_ctx,
        "partials": lease.partials,
        "since": lease.since,
    }


def _device(view: View, profile: Profile) -> dict[str, Any]:
    serves = profile.session and view.lease is not None and profile.session == view.lease.session
    return {
        "name": profile.name,
        "state": profile.state,
        "reason": profile.reason,
        "model": profile.model.name if profile.model else "",
        "isa": profile.isa,
        "threads": profile.threads,
        "cores": profile.cores,
        "memory_bytes": profile.memory_bytes,
        "hub": view.lease.hub if serves and view.lease else "",
        "session": profile.session,
    }


def _as_text(cell: str, address: Address, view: View) -> str:
    lines = [_hub_line(cell, view)]
    devices = [_device(view, p) for _, p in sorted(view.roster.profiles.items())]
    if not devices:
        lines.append(f"no workers. Start one: halo worker --broker {address} --cell {cell} -m MODEL")
    else:
        rows: list[tuple[str, ...]] = [("NAME", "STATE", "MODEL", "ISA", "THREADS", "CORES", "MEMORY", "HUB")]
        rows += [_row(device) for device in devices]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"{d['name']} refused: {d['reason']}" for d in devices if d["state"] == "refused"]
    lines += [f"{name}: {why}" for name, why in sorted(view.roster.strangers.items())]
    return "\n".join(lines)


def _hub_line(cell: str, view: View) -> str:
    if view.foreign_hub is not None:
        return f"cell {cell}: a hub of another version: {view.foreign_hub}"
    if view.lease is None:
        return f"cell {cell}: no hub"
    alive = "" if view.beating else " (its heartbeat has stopped)"
    lease = view.lease
    return f"cell {cell}: hub {lease.hub}{alive}, model {lease.model.name}, session {lease.session}"


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    return (
        device["name"],
        device["state"],
        device["model"],
        device["isa"],
        str(device["threads"]),
        str(device["cores"]),
        size(device["memory_bytes"]),
        device["hub"] or "-",
    )
