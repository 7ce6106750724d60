"""The sidecar `<model>.halo.gguf`: what is known of one model's MLP groups. docs/predictor.md describes the file.

A sidecar comes from outside as a model does: nothing in it is trusted, and it fits one model and one grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halo.errors import ModelError, SidecarError
from halo.model import Model
from halo.model.gguf import GgufFile, read_gguf
from halo.model.gguf_write import Value, write_gguf
from halo.model.split import stem
from halo.quality import LEVELS
from halo.words import clean, shown

ARCHITECTURE = "halo-sidecar"
VERSION = 2
QUALITY_SHARES = {level: share for level, share in LEVELS.items() if share}
"""Share of a layer's groups that a quality level lets be late."""

_F32 = 0  # ggml's number of the tensor type
_LARGEST = 1e9
"""Of any value. The most that models were seen to have in their residual stream is below 1e6; with means of this size
in all groups of all layers, every sum of squares of it still is a finite f32."""
_AGAIN = "Make it again with `halo calibrate`."

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LayerTable:
    """One layer's groups. An empty group, which gives nothing whatever the input, has a significance of 0."""

    bounds: list[int]  # of the grid, in neurons
    mean: Floats  # (groups, d) mean output
    predictor: Floats  # (groups, d)
    bias: Floats  # (groups); predictor @ normed layer input + bias = log of the distance from the mean
    significance: Floats  # (groups) mean distance of the output from its mean

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which groups (groups) are not empty."""
        return self.significance > 0


@dataclass(frozen=True)
class Sidecar:
    """A model's tables, and what they were learned from."""

    identity: str  # of the model
    content: str  # of its weights
    model_name: str
    text_name: str
    text_sha256: str
    tokens: int  # that were learned from
    layers: list[LayerTable]

    def quotas(self, share: float) -> list[int]:
        """How many groups of each layer are its bottom `share`: by layer, since layers are not comparable."""
        return [int(share * int(layer.counted.sum()) + 0.5) for layer in self.layers]


def sidecar_path(model: Path) -> Path:
    """Where a model's sidecar is by default: `stories.gguf` has `stories.halo.gguf` beside it, and so has any part."""
    return model.with_name(f"{stem(model)}.halo.gguf")


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write it; a file that was there stays until the new one is whole."""
    metadata: dict[str, Value] = {
        "general.architecture": ARCHITECTURE,
        "general.name": f"HALO sidecar of {sidecar.model_name}",
        "halo.sidecar.version": VERSION,
        "halo.model.identity": sidecar.identity,
        "halo.model.content": sidecar.content,
        "halo.model.name": sidecar.model_name,
        "halo.layer_count": len(sidecar.layers),
        "halo.text.name": sidecar.text_name,
        "halo.text.sha256": sidecar.text_sha256,
        "halo.token_count": sidecar.tokens,
    }
    for level, share in QUALITY_SHARES.items():
        metadata[f"halo.quota.{level}"] = sidecar.quotas(share)
    tensors = {}
    for i, layer in enumerate(sidecar.layers):
        metadata[f"halo.blk.{i}.bounds"] = layer.bounds
        for name, values in _tensors(layer).items():
            tensors[f"halo.blk.{i}.{name}"] = values
    write_gguf(path, metadata, tensors)


def _tensors(layer: LayerTable) -> dict[str, Floats]:
    return {
        "mean": layer.mean,
        "predictor": layer.predictor,
        "bias": layer.bias,
        "significance": layer.significance,
    }


def is_sidecar(path: Path) -> bool:
    """Whether the file is a sidecar, if only of another model, or what is left of one."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return ARCHITECTURE.encode() in file.read(256)
    except OSError:
        return False


def groups_of(path: Path) -> int:
    """The largest number of groups of a layer of a sidecar's grid, to open the model with the same one."""
    reader = _Reader(path)
    return max(len(reader.bounds(i)) - 1 for i in range(reader.count("halo.layer_count", 1 << 16)))


def read_sidecar(path: Path, model: Model) -> Sidecar:
    """The sidecar of this very model and grid. Raises SidecarError: why it cannot be used, and what to try."""
    reader = _Reader(path)
    identity = reader.text("halo.model.identity")
    if identity != model.identity:
        name = clean(reader.text("halo.model.name"), 80)
        raise SidecarError(
            f"{path} was made for another model file ({name}, {identity[:12]}...) than "
            f"{model.path} ({model.identity[:12]}...). {_AGAIN}"
        )
    if reader.text("halo.model.content") != model.content:
        raise SidecarError(
            f"{path} was made for a model file with the same header as {model.path}, and other weights. {_AGAIN}"
        )
    if reader.count("halo.layer_count", 1 << 16) != model.spec.n_layers:
        raise reader.fail("it has another number of layers than its model")
    if len(reader.file.tensors) != 4 * model.spec.n_layers:
        raise reader.fail(f"it has {len(reader.file.tensors)} tensors instead of {4 * model.spec.n_layers}")
    sidecar = Sidecar(
        identity=identity,
        content=model.content,
        model_name=reader.text("halo.model.name"),
        text_name=reader.text("halo.text.name"),
        text_sha256=reader.text("halo.text.sha256"),
        tokens=reader.count("halo.token_count", 1 << 48),
        layers=[_layer(reader, model, i) for i in range(model.spec.n_layers)],
    )
    for level, share in QUALITY_SHARES.items():
        if reader.file.metadata.get(f"halo.quota.{level}") != sidecar.quotas(share):
            raise reader.fail(f"its quotas for the quality {shown(level)} are not those of its tables")
    return sidecar


def _layer(reader: _Reader, model: Model, i: int) -> LayerTable:
    bounds = reader.bounds(i)
    if bounds != model.grid.mlp[i]:
        raise SidecarError(
            f"{reader.file.path} was made for another grid than the model has here: layer {i} has "
            f"{len(bounds) - 1} MLP groups there and {len(model.grid.mlp[i]) - 1} here. {_AGAIN}"
        )
    groups, d = len(bounds) - 1, model.spec.d
    layer = LayerTable(
        bounds=bounds,
        mean=reader.tensor(f"halo.blk.{i}.mean", (groups, d)),
        predictor=reader.tensor(f"halo.blk.{i}.predictor", (groups, d)),
        bias=reader.tensor(f"halo.blk.{i}.bias", (groups,)),
        significance=reader.tensor(f"halo.blk.{i}.significance", (groups,)),
    )
    if (layer.significance < 0).any():
        raise reader.fail(f"layer {i} has a negative significance")
    return layer


class _Reader:
    """Typed look-ups in a sidecar, each with an error that says what is wrong."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SidecarError(f"There is no sidecar {path}. Make it with `halo calibrate`.")
        if not path.is_file():
            raise SidecarError(f"{path} is no file, and so no sidecar.")
        try:
            with path.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise SidecarError(f"{path} is no GGUF file, and so no sidecar. {_AGAIN}")
            self.file: GgufFile = read_gguf(path)
        except OSError as error:
            raise SidecarError(f"The sidecar {path} cannot be read: {error.strerror}.") from None
        except ModelError as error:
            raise SidecarError(f"The sidecar cannot be used: {error} {_AGAIN}") from None
        if self.file.metadata.get("general.architecture") != ARCHITECTURE:
            raise SidecarError(f"{path} is a GGUF file, but not a sidecar of HALO. {_AGAIN}")
        version = self.file.metadata.get("halo.sidecar.version")
        if version != VERSION:
            raise SidecarError(
                f"{path} is a sidecar of version {shown(version)}; this HALO reads version {VERSION}. {_AGAIN}"
            )

    def fail(self, why: str) -> SidecarError:
        return SidecarError(f"The sidecar {self.file.path} cannot be used: {why}. {_AGAIN}")

    def text(self, key: str) -> str:
        value = self.file.metadata.get(key)
        if not isinstance(value, str):
            raise self.fail(f"the metadata key {key} is missing or not a text")
        return value

    def count(self, key: str, most: int) -> int:
        value: Any = self.file.metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise self.fail(f"the metadata key {key} is missing or not a number that can be")
        return value

    def bounds(self, layer: int) -> list[int]:
        value: Any = self.file.metadata.get(f"halo.blk.{layer}.bounds")
        if not isinstance(value, list) or len(value) < 2 or not all(type(v) is int for v in value):
            raise self.fail(f"the groups of layer {layer} are missing")
        return value

    def tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A copy of the tensor, which must be f32 of this shape, whole and finite."""
        tensor = self.file.tensors.get(name)
        if tensor is None or tensor.type != _F32 or tensor.shape != shape[::-1]:
            raise self.fail(f"the tensor {name} is missing, or of a wrong type or shape")
        size = int(np.prod(shape, dtype=np.int64))
        if tensor.offset + 4 * size > self.file.size:
            raise self.fail(f"it ends inside the tensor {name}: it is truncated")
        values = np.frombuffer(self.file.data, "<f4", size, tensor.offset).astype(np.float32).reshape(shape)
        largest = float(np.abs(values).max())
        if not isfinite(largest):
            raise self.fail(f"the tensor {name} has values that are not finite")
        if largest > _LARGEST:
            raise self.fail(f"the tensor {name} has a value of {largest:.3g}, far beyond what a model gives")
        return values
