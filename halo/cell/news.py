"""The log's lines about changes of the membership: what happened, and what was done."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from halo.cell.roster import MOST_KNOWN
from halo.cell.topics import Topics
from halo.words import shortened


def describe(names: Sequence[str]) -> str:
    """`the hub and 2 workers (a, b)`."""
    if not names:
        return "the hub alone"
    return f"the hub and {len(names)} worker{'s' if len(names) > 1 else ''} ({shortened(names)})"


def crowd(cell: str) -> str:
    """More devices are retained in the cell than a hub looks at."""
    return (
        f"the broker retains profiles of more than {MOST_KNOWN} devices: those that serve and those heard of last "
        f"count. To remove what devices that are gone have left behind: {_remove(cell)}"
    )


def left_behind(cell: str, names: Collection[str]) -> str:
    """Of devices that have said nothing since the hub is there."""
    return (
        f"Of {shortened(sorted(names))} there is only a profile that the broker retains: perhaps the device is gone. "
        f"To remove such: {_remove(cell)}."
    )


def _remove(cell: str) -> str:
    profiles = Topics(cell).all_profiles
    return (
        f"mosquitto_sub -h HOST -t '{profiles}' --remove-retained -W 5 (of Debian's mosquitto-clients; who is there "
        "comes back by itself)"
    )


def joined(name: str) -> str:
    return f"worker {name} has joined: it takes part from the next token on"


def left(name: str, reason: str, others: bool) -> str:
    return f"worker {name} has left ({reason}): {_rest(others, 'its')}"


def silent(names: Sequence[str], others: bool) -> str:
    """Workers that were found silent at one look."""
    if len(names) == 1:
        rest = _rest(others, "its")
        return f"worker {names[0]} does not answer: {rest}; it is used again as soon as it answers"
    rest = _rest(others, "their")
    return f"workers {shortened(names)} do not answer: {rest}; they are used again as soon as they answer"


def back(names: Sequence[str], away_s: float) -> str:
    """Workers that were found answering again at one look, after so many seconds."""
    who = f"worker {names[0]} is" if len(names) == 1 else f"workers {shortened(names)} are"
    return f"{who} back after {away_s:.1f} s: used again"


def expelled(name: str, reason: str, others: bool) -> str:
    return f"worker {name} is expelled: {reason}. {_rest(others, 'its').capitalize()}, until it is started anew"


def left_out(name: str, reason: str) -> str:
    return f"worker {name} does not take part: {reason}"


def _rest(others: bool, whose: str) -> str:
    if others:
        return f"the others and the hub compute {whose} groups"
    return f"the hub computes {whose} groups"
