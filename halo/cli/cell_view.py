"""A cell as `halo devices` shows it: as an object and as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from halo.cell.address import Address
from halo.cell.ledger import HUB
from halo.cell.messages import Link, Profile, Shard, Work
from halo.cell.news import crowd
from halo.cell.view import View
from halo.cli.console import size, table
from halo.words import shortened


def as_json(cell: str, view: View) -> dict[str, Any]:
    """The cell as an object: the hub, the devices, of each its link and its work, and who takes part no more; of hub
    and devices of another version (`foreign_hub`, `strangers`: by name) what their users are to do."""
    return {
        "cell": cell,
        "hub": None if view.lease is None else _hub(view),
        "foreign_hub": view.foreign_hub,
        "devices": [_device(view, p) for _, p in sorted(view.roster.profiles.items())],
        "gone": [_work(work) for name, work in view.work().items() if name not in (HUB, *view.roster.profiles)],
        "strangers": dict(sorted(view.roster.strangers.items())),
        "ignored": view.roster.ignored,
        "left_out": view.roster.left_out,
    }


def _hub(view: View) -> dict[str, Any]:
    lease = view.lease
    assert lease is not None
    return {
        "name": lease.hub,
        "halo": lease.halo,
        "alive": view.beating,
        "session": lease.session,
        "model": lease.model.name,
        "n_ctx": lease.n_ctx,
        "partials": lease.partials,
        "residency": lease.residency,
        "since": lease.since,
        "work": None if (work := view.work().get(HUB)) is None else _work(work),
    }


def _device(view: View, profile: Profile) -> dict[str, Any]:
    link = view.link(profile.name)
    serves = profile.session and view.lease is not None and profile.session == view.lease.session
    return {
        "name": profile.name,
        "state": profile.state,
        "reason": profile.reason,
        "halo": profile.halo,
        "loaded": profile.loaded,
        "shard": profile.shard,
        "model": profile.model.name if profile.model else "",
        "isa": profile.isa,
        "threads": profile.threads,
        "cores": profile.cores,
        "memory_bytes": profile.memory_bytes,
        "hub": view.lease.hub if serves and view.lease else "",
        "session": profile.session,
        "link": None if link is None else _fields(link),
        "work": None if (work := view.work().get(profile.name)) is None else _work(work),
    }


def as_text(cell: str, address: Address, view: View) -> str:
    """The cell as a table, with a line for each trouble."""
    lines = [hub_line(cell, view)]
    devices = [_device(view, p) for _, p in sorted(view.roster.profiles.items())]
    if not devices:
        lines.append(f"no workers. Start one: halo worker --broker {address} --cell {cell} -m MODEL")
    else:
        rows: list[tuple[str, ...]] = [("NAME", "STATE", "MODEL", "ISA", "THREADS", "CORES", "MEMORY", "HUB", "LINK")]
        rows += [_row(device) for device in devices]
        lines += table(rows)
        links = (view.link(name) for name in sorted(view.roster.profiles))
        lines += unreached(link for link in links if link is not None)
    return "\n".join([*lines, *outside(cell, view)])


def outside(cell: str, view: View) -> list[str]:
    """A sentence for each device that does not take part, with its reason."""
    profiles = sorted(view.roster.profiles.items())
    lines = [f"{name} refused: {profile.reason}" for name, profile in profiles if profile.state == "refused"]
    lines += [f"{name}: {why}" for name, why in sorted(view.roster.strangers.items())]
    return lines + ([crowd(cell)] if view.roster.left_out else [])


def hub_line(cell: str, view: View) -> str:
    """Who leads the cell."""
    if view.foreign_hub is not None:
        return f"cell {cell}: a hub of another version: {view.foreign_hub}"
    if view.lease is None:
        return f"cell {cell}: no hub"
    alive = "" if view.beating else " (its heartbeat has stopped)"
    lease = view.lease
    return f"cell {cell}: hub {lease.hub}{alive}, model {lease.model.name}, session {lease.session}"


def state_of(state: str, loaded: float | None, shard: Shard | None) -> str:
    """`loading 40%`, `ready 1/3`: what a worker does, how far it is, and the shard that it holds, counted from 1."""
    if state == "loading" and loaded is not None:
        return f"{state} {loaded:.0%}"
    return state if shard is None else f"{state} {shard[0] + 1}/{shard[1]}"


def unreached(links: Iterable[Link]) -> list[str]:
    """A sentence for each reason why datagrams do not reach some workers."""
    by_reason: dict[str, list[str]] = {}
    for link in links:
        if link.reason:
            by_reason.setdefault(link.reason, []).append(link.name)
    return [
        f"{shortened(names)} {'is' if len(names) == 1 else 'are'} not reached over udp: {reason}"
        for reason, names in by_reason.items()
    ]


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    return (
        device["name"],
        state_of(device["state"], device["loaded"], device["shard"]),
        device["model"],
        device["isa"],
        str(device["threads"]),
        str(device["cores"]),
        size(device["memory_bytes"]),
        device["hub"] or "-",
        _link(device["link"]),
    )


def _fields(link: Link) -> dict[str, Any]:
    return {key: value for key, value in msgspec.to_builtins(link).items() if key != "name"}


def _work(work: Work) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(work)
    return fields


def _link(link: dict[str, Any] | None) -> str:
    if link is None:
        return "-"
    return " ".join(link[key] for key in ("transport", "address", "cipher") if link[key])
