"""A laboratory of bad networks: hosts as network namespaces on one machine. docs/lab.md tells how to use it."""

from __future__ import annotations

from .build import why_not
from .conditions import Conditions, Counters, LabError
from .echo import echo
from .laboratory import Lab, address

__all__ = ["Conditions", "Counters", "Lab", "LabError", "address", "echo", "why_not"]
