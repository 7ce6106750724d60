"""`halo devices --watch`: the cell once a second, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable

from halo.cell.address import Address
from halo.cell.loop import errors_in_one_line
from halo.cell.messages import Link, Profile
from halo.cell.topics import Topics
from halo.cell.view import View, follow
from halo.cli.cell_view import as_json, hub_line, state_of
from halo.cli.console import say, size, table

_HEADINGS = (
    "NAME", "STATE", "LINK", "RTT", "JITTER", "LOSS TO", "FROM", "GOODPUT", "REPAIRS", "TIMEOUTS", "ADDRESS",
)  # fmt: skip
# No cursor is hidden and no mode left on between two pictures, so that nothing is to be mended however we end.
_NO_WRAP, _WRAP, _CLEAR_BELOW, _CLEAR_LINE = "\x1b[?7l", "\x1b[?7h", "\x1b[J", "\x1b[K"


def watch(address: Address, topics: Topics, *, as_lines_of_json: bool) -> int:
    """Print until Ctrl-C, which is the ordinary end; BrokerError when the broker is not there at the start."""
    show = _json(topics.cell) if as_lines_of_json else _picture(topics.cell, address)
    try:
        asyncio.run(_follow(address, topics, show))
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            sys.stdout.write(f"\r{_CLEAR_LINE}")  # the terminal's ^C
    return 0


async def _follow(address: Address, topics: Topics, show: Callable[[View], None]) -> None:
    errors_in_one_line(asyncio.get_running_loop(), say)
    await follow(address, topics, show)


def _json(cell: str) -> Callable[[View], None]:
    def show(view: View) -> None:
        document = {"time": round(time.time(), 3), "connected": view.connected, **as_json(cell, view)}
        print(json.dumps(document), flush=True)

    return show


def _picture(cell: str, address: Address) -> Callable[[View], None]:
    """Lines that replace those before on a terminal, and follow them elsewhere."""
    height = 0

    def show(view: View) -> None:
        nonlocal height
        lines = picture(cell, address, view)
        if sys.stdout.isatty():
            lines = fitting(lines, shutil.get_terminal_size().lines - 1)
            up = f"\x1b[{height}A" if height else ""
            text = f"{up}\r{_CLEAR_BELOW}{_NO_WRAP}" + "".join(f"{line}\n" for line in lines) + _WRAP
            height = len(lines)
        else:
            text = "".join(f"{line}\n" for line in lines)
        sys.stdout.write(text)
        sys.stdout.flush()

    return show


def fitting(lines: list[str], most: int) -> list[str]:
    """The lines, cut to a terminal's height: what has scrolled away could not be replaced."""
    if len(lines) <= most:
        return lines
    return [*lines[: max(most - 1, 0)], f"and {len(lines) - most + 1} more lines: the terminal is too small"]


def picture(cell: str, address: Address, view: View) -> list[str]:
    """The cell at this moment: a line for the hub, a row for each worker, and why some are not reached over udp."""
    now = time.strftime("%H:%M:%S")
    if not view.connected:
        return [f"{now}  the broker at {address} is away; trying to reach it again"]
    head = f"{now}  {hub_line(cell, view)}"
    profiles = [profile for _, profile in sorted(view.roster.profiles.items())]
    if not profiles:
        return [head, "no workers"]
    links = [view.link(profile.name) for profile in profiles]
    rows = [_HEADINGS, *(_row(profile, link) for profile, link in zip(profiles, links, strict=True))]
    reasons = [f"{link.name} is not reached over udp: {link.reason}" for link in links if link and link.reason]
    return [head, *table(rows), *reasons]


def _row(profile: Profile, link: Link | None) -> tuple[str, ...]:
    state = state_of(profile.state, profile.loaded, profile.shard)
    if link is None:
        return (profile.name, state, *("-" for _ in _HEADINGS[2:]))
    measured = link.rtt_ms is not None
    return (
        profile.name,
        state,
        link.transport,
        _ms(link.rtt_ms),
        _ms(link.jitter_ms),
        _percent(link.loss_to),
        _percent(link.loss_from),
        "-" if not link.goodput else f"{size(round(link.goodput))}/s",
        str(link.repairs) if measured else "-",
        str(link.timeouts) if measured else "-",
        link.address or "-",
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.{1 if value >= 10 else 2}f} ms"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
