"""The control plane: the devices of a cell, how they find one another and how they part."""

from __future__ import annotations

from halo.cell.hub import Cell

__all__ = ["Cell"]
