"""Opens a model: GGUF file -> spec, grid, and the native model that computes with its mapped weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite, prod
from pathlib import Path
from typing import Any, TypeVar

from halo import _native
from halo.errors import ModelError
from halo.limits import LIMITS
from halo.model.content import digest_of_samples
from halo.model.convert import Conversion, conversion
from halo.model.gguf import GgufFile, TensorInfo
from halo.model.grid import MAX_MLP_GROUPS, attention_bounds, mlp_bounds
from halo.model.split import name_of, read_parts
from halo.words import shown

# Of the types that the kernels compute: ggml's number -> values a block, bytes a block.
_SIZES = {number: (block, size) for number, block, size in _native.weight_types().values()}

_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class Spec:
    """The dimensions of a model of the `llama` architecture."""

    n_layers: int
    d: int  # embedding length
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ff: int  # neurons of the MLP
    vocab: int
    rope_dims: int
    rope_base: float
    norm_eps: float
    rope_scaling: float  # all angles are divided by it


@dataclass(frozen=True)
class Grid:
    """Boundaries of the groups, per layer: in KV heads and in neurons."""

    attention: list[list[int]]
    mlp: list[list[int]]


class Model:
    """An open model file. `native` shares the mapping, so closing waits for the engines that use it."""

    def __init__(self, file: GgufFile, spec: Spec, grid: Grid, native: _native.Model, converted: Conversion) -> None:
        self.file, self.spec, self.grid, self.native, self.converted = file, spec, grid, native, converted
        self.path = file.path
        self.identity = file.identity
        # Of more than can be opened (or of a damaged number) what can be.
        self.n_ctx_train = min(_Metadata(file).count("llama.context_length", 2048), int(LIMITS["n_ctx"].high))
        self.name = name_of(file)

    @cached_property
    def content(self) -> str:
        """SHA-256 of samples of the weights, 64 hex digits."""
        return digest_of_samples(self.file, _SIZES | self.converted.sizes)

    @property
    def size(self) -> int:
        """Bytes of the file, or of all its parts."""
        return self.file.total_size

    @property
    def types(self) -> str:
        """The types of the matrices, the most frequent first, as in "Q4_0+Q8_0"."""
        kinds = [t.type_name for t in self.file.tensors.values() if len(t.shape) > 1]
        return "+".join(sorted(set(kinds), key=lambda k: (-kinds.count(k), k)))


class _Metadata:
    """Typed look-ups of `llama.*` keys, with an error that names the key."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file

    def number(self, key: str, kind: type[_N], default: _N | None = None) -> _N:
        value = self.file.metadata.get(key, default)
        if isinstance(value, list) and value:  # one for each layer
            if any(v != value[0] for v in value):
                raise ModelError(
                    f"{self.file.path}: {key} differs from layer to layer, which HALO does not compute. Take a model "
                    "whose layers are all alike, as those of Meta, TinyLlama, Mistral and SmolLM2 are."
                )
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
            raise ModelError(f"{self.file.path}: the metadata key {key} is missing or not a number.")
        return kind(value)

    def count(self, key: str, default: int | None = None) -> int:
        n = self.number(key, int, default)
        if not 1 <= n <= 1 << 24:
            raise ModelError(f"{self.file.path}: the metadata key {key} has the impossible value {n}.")
        return n


def _check_architecture(file: GgufFile) -> None:
    if file.metadata.get("general.type") == "adapter":
        raise ModelError(
            f"{file.path} is an adapter (LoRA): it changes a model, and is none. Merge it into that model with "
            "llama.cpp's llama-export-lora, and give the file that this makes."
        )
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelError(
            f"{file.path} is a model of the architecture {shown(architecture)}; HALO runs 'llama' (Llama, TinyLlama, "
            "Mistral, SmolLM2 and others of that family)."
        )
    if _Metadata(file).number("llama.expert_count", int, 0) > 0:
        raise ModelError(f"{file.path} is a mixture of experts, which HALO does not compute.")
    if file.metadata.get("llama.attention.causal", True) is not True:
        raise ModelError(
            f"{file.path} reads a text in both directions (llama.attention.causal): it makes embeddings, and no text. "
            "Take a model that generates."
        )


def _rope_scaling(file: GgufFile) -> float:
    """What the angles are divided by. As llama.cpp has it: linear is what a file means that names no type."""
    meta = _Metadata(file)
    kind = file.metadata.get("llama.rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise ModelError(
            f"{file.path} has positions scaled by {shown(kind)} (llama.rope.scaling.type); HALO computes 'linear', and "
            "the rope_freqs of Llama 3.1. Take a version of the model for a shorter context, if there is one."
        )
    if meta.number("llama.rope.scaling.attn_factor", float, 1.0) != 1.0:
        raise ModelError(f"{file.path} scales its attention (llama.rope.scaling.attn_factor), which HALO does not do.")
    old = meta.number("llama.rope.scale_linear", float, 0.0)
    factor = meta.number("llama.rope.scaling.factor", float, old)
    return 1.0 if kind == "none" or factor == 0.0 else factor


def _read_spec(file: GgufFile) -> Spec:
    meta = _Metadata(file)
    embedding = _tensor(file, "token_embd.weight")
    heads = meta.count("llama.attention.head_count")
    d = meta.count("llama.embedding_length")
    head_dim = meta.count("llama.attention.key_length", max(1, d // heads))
    if meta.count("llama.attention.value_length", head_dim) != head_dim:
        raise ModelError(f"{file.path}: keys and values of different lengths are not supported.")
    return Spec(
        n_layers=meta.count("llama.block_count"),
        d=d,
        n_heads=heads,
        n_kv_heads=meta.count("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        ff=meta.count("llama.feed_forward_length"),
        vocab=embedding.shape[-1],
        rope_dims=meta.count("llama.rope.dimension_count", head_dim),
        rope_base=meta.number("llama.rope.freq_base", float, 10000.0),
        norm_eps=meta.number("llama.attention.layer_norm_rms_epsilon", float, 1e-5),
        rope_scaling=_rope_scaling(file),
    )


def _tensor(file: GgufFile, name: str) -> TensorInfo:
    try:
        return file.tensors[name]
    except KeyError:
        raise ModelError(
            f"{file.path} has no tensor {name!r}: it may be one part of a split file, or damaged."
        ) from None


_GLOBAL_TENSORS = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"}
_LAYER_TENSORS = {
    f"{name}.weight"
    for name in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
}  # fmt: skip
_OPTIONAL_TENSORS = {
    f"{name}.bias" for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
} | {"attn_rot_embd.weight"}  # the last: of old converters, the frequencies that follow from the rope base


def _check_tensors(file: GgufFile, spec: Spec) -> None:
    """Every tensor is known: a model is run as it is, or not at all."""
    for name in file.tensors:
        parts = name.split(".", 2)
        known = len(parts) == 3 and parts[2] in _LAYER_TENSORS | _OPTIONAL_TENSORS
        in_layer = known and parts[0] == "blk" and parts[1].isdecimal()
        if in_layer and int(parts[1]) >= spec.n_layers:
            raise ModelError(
                f"{file.path} has a tensor {shown(name)}, but only {spec.n_layers} layers by its metadata: it is "
                "damaged, or made from two models. Download or copy it again."
            )
        if not in_layer and name not in _GLOBAL_TENSORS:
            raise ModelError(f"{file.path} has a tensor {shown(name)} that HALO does not know how to compute with.")
    for layer in range(spec.n_layers):
        for name in _LAYER_TENSORS:
            _tensor(file, f"blk.{layer}.{name}")


def _check_places(file: GgufFile, converted: Conversion) -> None:
    """The file, or each part of it, is long enough for its tensors, and no two of them share bytes."""
    tensors = sorted(file.tensors.values(), key=lambda tensor: tensor.offset)
    sizes = _SIZES | converted.sizes
    ends = [t.offset + prod(t.shape) // sizes[t.type][0] * sizes[t.type][1] for t in tensors]
    for tensor, end in zip(tensors, ends, strict=True):
        part, at = file.place(tensor)
        if end - tensor.offset > part.size - at:
            raise ModelError(
                f"{part.path} is truncated or damaged: it has {part.size} bytes, but tensor {tensor.name!r} ends at "
                f"{end - tensor.offset + at}. Download or copy it again, and compare its size with that of the source."
            )
    for before, end, after in zip(tensors, ends, tensors[1:], strict=False):
        if end > after.offset:
            raise ModelError(
                f"{file.path} is damaged: its tensors {shown(before.name)} and {shown(after.name)} overlap. Download "
                "or copy it again."
            )


def _make_grid(file: GgufFile, spec: Spec, mlp_groups: int, converted: Conversion) -> Grid:
    blocks = {kind: block for kind, (block, _) in (_SIZES | converted.sizes).items()}
    columns = spec.n_heads // max(1, spec.n_kv_heads) * spec.head_dim
    layers = range(spec.n_layers)
    return Grid(
        attention=[
            attention_bounds(spec.n_kv_heads, columns, blocks[file.tensors[f"blk.{i}.attn_output.weight"].type])
            for i in layers
        ],
        mlp=[mlp_bounds(spec.ff, blocks[file.tensors[f"blk.{i}.ffn_down.weight"].type], mlp_groups) for i in layers],
    )


def _table(file: GgufFile) -> dict[str, tuple[int, int, int, int]]:
    def rows(shape: tuple[int, ...]) -> int:
        product = 1
        for extent in shape[1:]:
            product *= extent
        return min(product, 1 << 40)

    return {t.name: (t.type, rows(t.shape), t.shape[0], t.offset) for t in file.tensors.values()}


def open_model(path: Path | str, *, mlp_groups: int = MAX_MLP_GROUPS) -> Model:
    """Open a GGUF model file, or all parts of a split one of which `path` is any.

    Raises ModelError: what is wrong with it and what to try.

    With `mlp_groups`, the MLP of each layer has no more groups than that: another grid than the model's own, for
    experiments on one device.
    """
    file = read_parts(Path(path))
    _check_architecture(file)
    spec = _read_spec(file)
    _check_tensors(file, spec)
    converted = conversion(file)
    _check_places(file, converted)
    grid = _make_grid(file, spec, mlp_groups, converted)
    arguments: dict[str, Any] = asdict(spec)
    try:
        maps = [part.data for part in file.parts]
        table = {**_table(file), **converted.table}
        native = _native.Model(maps, arguments, table, grid.attention, grid.mlp, converted.tensors)
    except ValueError as e:
        raise ModelError(f"{file.path} cannot be run: {e}. If the file is not damaged, please report it.") from e
    return Model(file, spec, grid, native, converted)
