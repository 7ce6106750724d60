"""HALO: one GGUF language model over several small computers whose network is bad.

The whole public surface is listed in `__all__`. The front end needs the `[hub]` extra (llama-cpp-python),
so it is imported on first use: a worker never loads it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from halo.errors import BrokerError, CellError, HaloError, ModelError

if TYPE_CHECKING:
    from halo.api import agenerate, astream, generate, stream
    from halo.llama import HaloLlama

__version__ = "0.1.0"
__all__ = [
    "BrokerError",
    "CellError",
    "HaloError",
    "HaloLlama",
    "ModelError",
    "__version__",
    "agenerate",
    "astream",
    "generate",
    "stream",
]

_LAZY = {
    "HaloLlama": "halo.llama",
    "agenerate": "halo.api",
    "astream": "halo.api",
    "generate": "halo.api",
    "stream": "halo.api",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'halo' has no attribute {name!r}")
