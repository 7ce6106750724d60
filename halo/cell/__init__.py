"""The control plane: the devices of a cell, how they find one another and how they part.

`Cell` is imported on first use, so that a module of this package can be imported alone, in any order.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halo.cell.hub import Cell

__all__ = ["Cell"]


def __getattr__(name: str) -> Any:
    if name == "Cell":
        return import_module("halo.cell.hub").Cell
    raise AttributeError(f"module 'halo.cell' has no attribute {name!r}")
