"""Skips what needs a laboratory where none can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from benchmarks.lab import Lab, LabError, why_not

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
