"""A model file as far as a diagnosis needs it: which one, and how much memory it takes. Nothing is packed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from halo.model.convert import conversion
from halo.model.gguf import GgufFile
from halo.model.split import name_of, read_parts

_PACKED = 1.03
"""Packed weights per byte of the file, at most (Q4_K)."""
_F16 = 2


@dataclass(frozen=True)
class ModelFile:
    """A model, and what a device holds that has all of it."""

    path: Path
    name: str
    identity: str
    size: int
    """Of the file, with what is converted as it will be."""
    n_ctx: int
    cache_bytes: int
    content: str = ""
    """As `halo.cell.messages.ModelId` has it."""

    @property
    def resident_bytes(self) -> int:
        """Packed weights and caches."""
        return int(self.size * _PACKED) + self.cache_bytes


def read_model(path: Path) -> ModelFile:
    """Read the file's header only; ModelError where it is not a usable GGUF file."""
    file = read_parts(path)
    n_ctx = _count(file, "context_length", 2048)
    size = file.total_size + conversion(file).growth
    return ModelFile(path, name_of(file), file.identity, size, n_ctx, n_ctx * _per_position(file))


def _per_position(file: GgufFile) -> int:
    """Bytes of the cache for one position: keys and values of all layers, f16."""
    heads = _count(file, "attention.head_count", 1)
    head_dim = _count(file, "attention.key_length", _count(file, "embedding_length", 0) // heads)
    return _count(file, "block_count", 0) * _count(file, "attention.head_count_kv", heads) * head_dim * 2 * _F16


def _count(file: GgufFile, key: str, default: int) -> int:
    value = file.metadata.get(f"llama.{key}", default)
    if isinstance(value, list) and value:  # one for each layer
        value = value[0]
    return value if isinstance(value, int) and value > 0 else default
