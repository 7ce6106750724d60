"""What a check reports, and how a check is made of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, ParamSpec

Status = Literal["ok", "warn", "bad", "unknown"]
P = ParamSpec("P")


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis.

    `warn` costs speed or safety, `bad` stops HALO or makes it several times slower, `unknown` could not be measured
    (`measured` then says why). `mend` are lines for a shell; those that begin with # are for the reader.
    """

    name: str
    status: Status
    measured: str
    why: str = ""
    mend: tuple[str, ...] = ()


class Unreadable(Exception):
    """Something cannot be measured here; the text says what and why."""


def named(name: str) -> Callable[[Callable[P, Finding]], Callable[P, Finding]]:
    """Make a check of a function: its finding gets this name, and what it cannot read becomes `unknown`."""

    def decorate(check: Callable[P, Finding]) -> Callable[P, Finding]:
        @functools.wraps(check)
        def run(*args: P.args, **kwargs: P.kwargs) -> Finding:
            try:
                return replace(check(*args, **kwargs), name=name)
            except Unreadable as error:
                return Finding(name, "unknown", str(error))

        return run

    return decorate


def ok(measured: str) -> Finding:
    """Nothing to mend."""
    return Finding("", "ok", measured)


def warn(measured: str, why: str, *mend: str) -> Finding:
    """It costs speed or safety."""
    return Finding("", "warn", measured, why, mend)


def bad(measured: str, why: str, *mend: str) -> Finding:
    """It stops HALO, or makes it several times slower."""
    return Finding("", "bad", measured, why, mend)
