"""`halo devices --watch`: the cell once a second, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable

from halo.cell.address import Address
from halo.cell.ledger import HUB
from halo.cell.loop import errors_in_one_line
from halo.cell.messages import LATE_BELOW_MS, Link, Profile, Work
from halo.cell.topics import Topics
from halo.cell.view import View, follow
from halo.cli.cell_view import as_json, hub_line, outside, state_of, unreached
from halo.cli.console import say, size, table

# Each table fits into 80 columns, with names of eight letters and IPv4.
_WORK = ("NAME", "STATE", "SHARE", "LATE", "BY", "STAND-INS", "CACHE", "REPAIRS", "TIMEOUTS")
_LINKS = ("NAME", "LINK", "RTT", "JITTER", "LOSS TO", "FROM", "GOODPUT", "ADDRESS")
_SHORT_S = 1.0
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
        if sys.stdout.isatty():
            terminal = shutil.get_terminal_size()
            lines = fitting(picture(cell, address, view, terminal.columns), terminal.lines - 1)
            up = f"\x1b[{height}A" if height else ""
            text = f"{up}\r{_CLEAR_BELOW}{_NO_WRAP}" + "".join(f"{line}\n" for line in lines) + _WRAP
            height = len(lines)
        else:
            text = "".join(f"{line}\n" for line in picture(cell, address, view))
        sys.stdout.write(text)
        sys.stdout.flush()

    return show


def fitting(lines: list[str], most: int) -> list[str]:
    """The lines, cut to a terminal's height: what has scrolled away could not be replaced."""
    if len(lines) <= most:
        return lines
    return [*lines[: max(most - 1, 0)], f"and {len(lines) - most + 1} more lines: the terminal is too small"]


def picture(cell: str, address: Address, view: View, columns: int | None = None) -> list[str]:
    """The cell at this moment: what each device does, how each worker is reached, and why some are not over udp.

    Sentences are broken at so many columns; tables are not.
    """
    now = time.strftime("%H:%M:%S")
    if not view.connected:
        return [f"{now}  the broker at {address} is away; trying to reach it again"]
    head = f"{now}  {hub_line(cell, view)}"
    profiles, work = view.roster.profiles, view.work()
    names = [*work, *(name for name in sorted(profiles) if name not in work)]
    sentences = outside(cell, view)
    if not profiles and len(work) < 2:
        return [head, "no workers", *_broken(sentences, columns)]
    links = {name: view.link(name) for name in names}
    done = [_work(name, work.get(name), profiles.get(name), links[name]) for name in names]
    ways = [_link(link) for link in links.values() if link is not None]
    lines = [head, *table([_WORK, *done]), *(["", *table([_LINKS, *ways])] if ways else [])]
    sentences += unreached(link for link in links.values() if link is not None)
    sentences += [f"{one.name} is {one.state}: {one.reason}" for one in work.values() if one.reason]
    return lines + _broken(sentences, columns)


def _broken(sentences: list[str], columns: int | None) -> list[str]:
    if columns is None:
        return sentences
    return [line for text in sentences for line in textwrap.wrap(text, columns, subsequent_indent="  ")]


def _work(name: str, work: Work | None, profile: Profile | None, link: Link | None) -> tuple[str, ...]:
    sent_again = ("-", "-") if link is None or link.rtt_ms is None else (str(link.repairs), str(link.timeouts))
    if work is None:
        state = state_of(profile.state, profile.loaded, profile.shard) if profile else "-"
        return (name, state, *("-" for _ in _WORK[2:-2]), *sent_again)
    own = name == HUB
    return (
        name,
        "-" if own else _state(work),
        _percent(work.share),
        "-" if own else str(work.late_requests),
        _half_by(work.late),
        "-" if own else str(work.stand_ins),
        _percent(work.cache),
        *sent_again,
    )


def _state(work: Work) -> str:
    """`away 12s`: how long matters of those that are missed."""
    return f"{work.state} {work.for_s:.0f}s" if work.state == "away" and work.for_s >= _SHORT_S else work.state


def _half_by(late: list[int]) -> str:
    """By how much half of the late requests were late at most: `<20 ms`."""
    half, seen = sum(late) / 2, 0
    for count, bound in zip(late, LATE_BELOW_MS, strict=False):
        seen += count
        if half and seen >= half:
            return f"<{bound} ms"
    return f"{LATE_BELOW_MS[-1]}+ ms" if half else "-"


def _link(link: Link) -> tuple[str, ...]:
    return (
        link.name,
        link.transport,
        _ms(link.rtt_ms),
        _ms(link.jitter_ms),
        _percent(link.loss_to),
        _percent(link.loss_from),
        "-" if not link.goodput else f"{size(round(link.goodput))}/s",
        link.address or "-",
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.{1 if value >= 10 else 2}f}"


def _percent(share: float | None) -> str:
    """`5.1%`, `33%`."""
    return "-" if share is None else f"{100 * share:.{0 if share == 0 or share >= 0.0995 else 1}f}%"
