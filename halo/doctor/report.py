"""How a diagnosis is printed: what hurts first, with its mend ready to be copied."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from halo.doctor.finding import Finding, Status

_WIDTH = 110
_ORDER: tuple[Status, ...] = ("bad", "warn", "unknown", "ok")


def hurts(findings: Sequence[Finding]) -> list[Finding]:
    """Those with something to mend, the worst first."""
    return [f for status in ("bad", "warn") for f in findings if f.status == status]


def as_text(findings: Sequence[Finding]) -> str:
    """A block for each finding that hurts, a line for each other one, and a line that sums up."""
    width = max((len(f.name) for f in findings), default=0)
    blocks = [_block(finding) for finding in hurts(findings)]
    lines = [_line(f, width) for status in ("unknown", "ok") for f in findings if f.status == status]
    return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else []), _sum(findings)])


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """{"bad", "warn", "unknown", "ok": how many, "findings": [{"name", "status", "measured", "why", "mend": [...]}]}"""
    counts: dict[str, Any] = {status: sum(f.status == status for f in findings) for status in _ORDER}
    listed = [
        {"name": f.name, "status": f.status, "measured": f.measured, "why": f.why, "mend": list(f.mend)}
        for f in [*hurts(findings), *(f for f in findings if f.status in ("unknown", "ok"))]
    ]
    return {**counts, "findings": listed}


def _block(finding: Finding) -> str:
    head = f"{finding.status:7}  {finding.name}: {finding.measured}"
    lines = [*_wrapped(head, "", " " * 9), *_wrapped(finding.why, " " * 9, " " * 9)]
    return "\n".join(lines + [f"         {'' if line.startswith('#') else '$ '}{line}" for line in finding.mend])


def _line(finding: Finding, width: int) -> str:
    head = f"{finding.status:7}  {finding.name:{width}}  "
    return "\n".join(_wrapped(head + finding.measured, "", " " * len(head)))


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _sum(findings: Sequence[Finding]) -> str:
    counts = {status: sum(f.status == status for f in findings) for status in _ORDER}
    if not counts["bad"] + counts["warn"]:
        verdict = "Nothing hurts"
    else:
        verdict = f"{counts['bad']} bad, {counts['warn']} to be warned of"
    return f"{verdict}; {counts['ok']} fine, {counts['unknown']} could not be measured."
