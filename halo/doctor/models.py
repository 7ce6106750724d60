"""A model file as far as a diagnosis needs it: which one, and how much memory it takes. Nothing is packed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    """A digest of samples of the weights."""

    @property
    def packed_bytes(self) -> int:
        """Of the weights."""
        return int(self.size * _PACKED)

    @property
    def resident_bytes(self) -> int:
        """Packed weights, and the caches when a text fills them."""
        return self.packed_bytes + self.cache_bytes


def read_model(path: Path) -> ModelFile:
    """Open the file as hubs and workers do. ModelError or MissingExtraError where one of them would refuse it."""
    from halo.model import open_model  # here: where there is no native module, that is for the diagnosis to say
    from halo.model.vocabulary import check_vocabulary

    model = open_model(path)
    check_vocabulary(model.file)
    spec = model.spec
    per_position = spec.n_layers * spec.n_kv_heads * spec.head_dim * 2 * _F16  # keys and values
    size = model.size + model.converted.growth
    n_ctx = model.n_ctx_train
    return ModelFile(path, model.name, model.identity, size, n_ctx, n_ctx * per_position, model.content)
