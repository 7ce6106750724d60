"""Finds the laboratory, which is no part of the package's code: bad networks are for measuring."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from halo.errors import HaloError

_NAME = "halo_lab"


def load_lab() -> ModuleType:
    """The package `benchmarks/lab`: inside the installed package, or in a source checkout."""
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "lab", package.parent / "benchmarks" / "lab"):
        if (folder / "switch.c").is_file():
            return _load(folder)
    raise HaloError("The laboratory (benchmarks/lab) is not installed. Install HALO again from its source.")


def _load(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules[_NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def lab_errors() -> Iterator[None]:
    """What the laboratory complains about is an error of HALO's for whoever uses it through HALO."""
    error: type[Exception] = load_lab().LabError
    try:
        yield
    except error as told:
        raise HaloError(str(told)) from None
