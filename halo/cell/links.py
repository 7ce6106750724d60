"""What the hub tells of its workers, from native figures: the way to each, and what each device has done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from halo.cell.ledger import HUB, summarize
from halo.cell.messages import Link, Work
from halo.exchange.datagrams import WITHOUT, HubDatagrams
from halo.words import clean

_MEASURED = {"rtt_ms": 3, "jitter_ms": 3, "loss_to": 4, "loss_from": 4, "goodput": 0}
"""Figures and their digits after the point."""
_WORK = (
    "share", "group_results", "requests", "late_requests", "late", "never", "stand_ins", "tolerant", "filled",
    "probations", "filled_rows",
)  # fmt: skip
_REASON = 200
"""Characters of a reason, of which one document may carry 65."""
_SILENT = "datagrams are not answered"


def link_of(name: str, state: Mapping[str, Any], datagrams: HubDatagrams) -> Link:
    """The link to worker `name`, of the native module's dict for it. The figures of a silent one are old: left out."""
    if not state["offered"]:
        return Link(name=name, transport="mqtt", reason=_why_none(name, datagrams))
    alive, packets = state["alive"], state["packets"]
    figures: dict[str, Any] = {key: rounded(state[key], digits) for key, digits in _MEASURED.items()} if alive else {}
    return Link(
        name=name,
        transport="udp" if alive or datagrams.only else "mqtt",
        address=state["address"],
        cipher=datagrams.ciphers.get(name, ""),
        repairs=packets["repairs"],
        timeouts=packets["timeouts"],
        reason="" if alive else _SILENT,
        **figures,
    )


def counted_link(name: str, state: Mapping[str, Any], datagrams: HubDatagrams) -> dict[str, Any]:
    """The link's fields but the name, and, where there are datagrams, the hub's count of them."""
    fields: dict[str, Any] = msgspec.to_builtins(link_of(name, state, datagrams))
    del fields["name"]
    return {**fields, "packets": state["packets"]} if state["offered"] else fields


def work_of(sums: dict[str, Any], states: Mapping[str, Mapping[str, Any]]) -> list[Work]:
    """What the hub and the workers with these states have done: of `Ledger.with_running`, and `Relay.members`."""
    work = []
    for device in summarize(sums)["devices"]:
        name = device["name"]
        if name != HUB and name not in states:
            continue  # its index is another one's
        counts = {key: device[key] for key in _WORK}
        state = states.get(name)
        if state is not None:
            counts["state"], counts["owed"] = state["state"], state["owed"]
            counts["reason"] = clean(state["reason"], _REASON)
            counts["for_s"] = round(state["for_s"], 1)
            counts["cache"] = round(min(max(state["cache"], 0.0), 1.0), 4)
        work.append(Work(name=name, **counts))
    return work


def rounded(value: float | None, digits: int) -> float | None:
    """`value` with so many digits after the point, whole with 0; None stays None: not known."""
    return None if value is None else round(value, digits or None)


def _why_none(name: str, datagrams: HubDatagrams) -> str:
    if not datagrams.wanted:
        return ""  # as the user wanted it
    if datagrams.unavailable:
        return clean(f"the hub has no datagrams: {datagrams.unavailable}")
    return clean(datagrams.troubles.get(name, WITHOUT))
