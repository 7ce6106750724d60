"""Skips what needs a laboratory where none can be made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab import Lab, LabError, why_not

_PATIENCE_S = 10

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session")
def can_make() -> None:
    if reason := why_not():
        pytest.skip(reason)
    try:
        Lab(2).close()
    except LabError as error:  # root, but in a container that may not
        pytest.skip(str(error))


@pytest.fixture
def make_lab(can_make: None) -> Iterator[MakeLab]:
    """Makes laboratories that are taken down with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Lab(*args, **options))


@pytest.fixture(params=["switch", "kernel"])
def any_lab(request: pytest.FixtureRequest, make_lab: MakeLab) -> Callable[..., Lab]:
    """The same with either way to carry frames."""

    def make(*args: Any, **options: Any) -> Lab:
        return make_lab(*args, kernel=request.param == "kernel", **options)

    return make


def gone(process: Path) -> bool:
    """Whether a process has ended, in /proc; it is given time."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if "\nState:\tZ" in (process / "status").read_text():
                return True  # nobody has waited for it yet
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False
