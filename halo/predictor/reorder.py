"""Re-ordering a model's MLP neurons hot to cold, so that its groups differ more in how much they matter.

A neuron is a row of gate and of up and a column of down; the layer's sum does not depend on their order. How hot it
is: the standard deviation of its activation over a text, times the length of its column. So far is what it gives from
what it gives on average, and that is what a late group lacks.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halo import _native
from halo.errors import MissingExtraError, ModelError, SidecarError
from halo.files import check_writable, whole
from halo.model import Model, open_model
from halo.model.gguf import TensorInfo
from halo.model.gguf_write import copy_header
from halo.predictor.sidecar import is_sidecar, sidecar_path
from halo.predictor.sums import Distances
from halo.predictor.text import Tokens, counted_tokens

KEY = "halo.neurons"
"""The metadata key that names the order; it makes the file another model than its source."""
TOKENS = 1024  # of the text: their layer inputs are kept in memory

_F32, _F16, _Q8_0, _BF16 = 0, 1, 8, 30
_BYTES = {_F32: 4, _F16: 2, _BF16: 2}  # of a value
_Q8_BLOCK, _Q8_BYTES = 32, 34
_COPY = 1 << 24

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]


def check_source(model: Model) -> None:
    """Raises ModelError for a model whose columns cannot be re-ordered, or have been."""
    if model.file.others:
        raise ModelError(
            f"{model.path} is in {len(model.file.parts)} parts, and only a model in one file can be re-ordered. Put it "
            "together with llama.cpp's `llama-gguf-split --merge FIRST_PART OUT.gguf` and start from that."
        )
    if KEY in model.file.metadata:
        raise ModelError(f"{model.path} has its neurons ordered already: start from the model that it was made from.")
    for i in range(model.spec.n_layers):
        for name in ("gate", "up", "down"):
            tensor = _tensor(model, i, name)
            if tensor.type not in (*_BYTES, _Q8_0):
                raise ModelError(
                    f"{model.path} cannot be re-ordered: {tensor.name} is quantised to {tensor.type_name}, whose "
                    "blocks would have to be quantised again, with loss. Start from the model in F16, BF16, F32 or "
                    "Q8_0 and give the type that you want with --type."
                )


def check_target(model: Model, out: Path) -> None:
    """Raises ModelError or OutputError for a place where the re-ordered model cannot be written."""
    if out.resolve() == model.path.resolve():
        raise ModelError(f"{out} is the model itself: give the re-ordered one another name.")
    check_writable(out)


def check_sidecars(learned: Path, out: Path) -> None:
    """Raises SidecarError where `learned`, the sidecar of the source, and the re-ordered model with its own cannot all
    be written."""
    theirs = sidecar_path(out)
    if learned.resolve() in (out.resolve(), theirs.resolve()):
        which = "the re-ordered model" if learned.resolve() == out.resolve() else "the re-ordered model's sidecar"
        raise SidecarError(
            f"{learned} would be both the sidecar that is learned first and {which}: give another name with --reorder, "
            "or the first one with -o."
        )
    if theirs.exists() and not is_sidecar(theirs):
        raise SidecarError(
            f"{theirs}, where the re-ordered model's sidecar belongs, exists and is no sidecar: it is left alone. Give "
            "the model another name with --reorder."
        )


def neuron_order(
    model: Model, pieces: Sequence[Tokens], *, threads: int = 1, progress: Progress = lambda n, of: None
) -> list[NDArray[np.int64]]:
    """By layer, the neurons (ff), the hottest first; equal ones (padding: all zero) in the order they have."""
    pieces, layers = _first(pieces), model.spec.n_layers
    inputs = _layer_inputs(model, pieces, threads, lambda n, of: progress(n * layers // of, 2 * layers))
    orders = []
    for i, x in enumerate(inputs):
        gate, up = (x @ _values(model, _tensor(model, i, name)).T + _bias(model, i, name) for name in ("gate", "up"))
        activations = gate / (1 + np.exp(-gate)) * up
        down = _values(model, _tensor(model, i, "down"))
        heat = activations.std(axis=0, dtype=np.float64) * np.linalg.norm(down, axis=0)
        orders.append(np.argsort(-heat, kind="stable"))
        progress(layers + i + 1, 2 * layers)
    return orders


def write_reordered(
    model: Model,
    orders: Sequence[NDArray[np.int64]],
    out: Path,
    *,
    kind: str | None = None,
    threads: int = 1,
    progress: Progress = lambda n, of: None,
) -> None:
    """Write the model with its neurons in these orders, quantised to one of REORDERED_TYPES (None: the types it has).

    The file is there when it is whole. Raises ModelError where the result cannot be run, or llama.cpp refuses it.
    """
    check_target(model, out)
    with ExitStack() as files:
        written = files.enter_context(whole(out))
        permuted = written
        if kind is not None:
            permuted = out.with_name(f"{out.name}.permuted")
            files.callback(permuted.unlink, missing_ok=True)
        _permute(model, orders, permuted, progress)
        if kind is not None:
            quantise(permuted, written, kind, threads)
        open_model(written)  # raises what is wrong with it


def _first(pieces: Sequence[Tokens]) -> list[Tokens]:
    chosen: list[Tokens] = []
    for piece in pieces:
        left = TOKENS - counted_tokens(chosen)
        if left > 1:
            chosen.append(piece[: left + 1])
    return chosen


def _layer_inputs(model: Model, pieces: list[Tokens], threads: int, progress: Progress) -> list[Floats]:
    """By layer, the MLP's inputs (tokens, d)."""
    engine = _native.Engine(model.native, max(len(piece) for piece in pieces), 1, threads, "f32")
    zeros = [np.zeros((len(bounds) - 1, model.spec.d), np.float32) for bounds in model.grid.mlp]
    seen = Distances(model, zeros, engine.n_ctx)
    engine.observe(seen.observer)
    inputs: list[list[Floats]] = [[] for _ in zeros]
    for done, piece in enumerate(pieces, 1):
        engine.truncate(0, 0)
        engine.forward(0, piece)
        for layer, (x, _) in zip(inputs, seen.take(), strict=True):
            layer.append(x.copy())
        progress(done, len(pieces))
    return [np.concatenate(layer) for layer in inputs]


def _tensor(model: Model, layer: int, name: str) -> TensorInfo:
    return model.file.tensors[f"blk.{layer}.ffn_{name}.weight"]


def _bias(model: Model, layer: int, name: str) -> Floats:
    """Of the neurons (ff); zeros where the model has none."""
    tensor = model.file.tensors.get(f"blk.{layer}.ffn_{name}.bias")
    if tensor is None:
        return np.zeros(model.spec.ff, np.float32)
    return np.frombuffer(model.file.data, "<f4", model.spec.ff, tensor.offset)


def _bytes(model: Model, tensor: TensorInfo) -> NDArray[np.uint8]:
    """(rows, bytes of a row)."""
    columns, rows = tensor.shape[0], tensor.shape[1]
    row = columns * _BYTES[tensor.type] if tensor.type in _BYTES else columns // _Q8_BLOCK * _Q8_BYTES
    return np.frombuffer(model.file.data, np.uint8, rows * row, tensor.offset).reshape(rows, row)


def _values(model: Model, tensor: TensorInfo) -> Floats:
    """(rows, columns)."""
    return np.stack([_native.dequantize(tensor.type, row.tobytes()) for row in _bytes(model, tensor)])


def _permute(model: Model, orders: Sequence[NDArray[np.int64]], out: Path, progress: Progress) -> None:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(order, "<i8").tobytes() for order in orders)).hexdigest()
    with out.open("w+b") as file:
        shift = copy_header(model.file, file, KEY, f"hot to cold, {digest}")
        for at in range(model.file.start, model.file.size, _COPY):
            file.write(model.file.data[at : at + _COPY])
        for i, order in enumerate(orders):
            for name in ("gate", "up", "down"):
                tensor = _tensor(model, i, name)
                file.seek(tensor.offset + shift)
                file.write((_columns if name == "down" else _rows)(model, tensor, order).tobytes())
                bias = model.file.tensors.get(f"blk.{i}.ffn_{name}.bias")
                if bias is not None and name != "down":  # that of down is of the layer's output
                    file.seek(bias.offset + shift)
                    file.write(_bias(model, i, name)[order].tobytes())
            progress(i + 1, len(orders))


def _rows(model: Model, tensor: TensorInfo, order: NDArray[np.int64]) -> NDArray[np.uint8]:
    return _bytes(model, tensor)[order]


def _columns(model: Model, tensor: TensorInfo, order: NDArray[np.int64]) -> NDArray[np.generic]:
    data = _bytes(model, tensor)
    if tensor.type in _BYTES:
        return data.view({2: np.uint16, 4: np.uint32}[_BYTES[tensor.type]])[:, order]
    encode = _native.Kernels(_native.isa()).quantize
    rows = (_native.dequantize(tensor.type, row.tobytes())[None, order] for row in data)
    return np.frombuffer(b"".join(encode(tensor.type, row) for row in rows), np.uint8)


def quantise(source: Path, out: Path, kind: str, threads: int) -> None:
    """Have llama.cpp write `out`, of one of its types. Raises ModelError where it refuses, MissingExtraError."""
    try:
        import llama_cpp

        from halo.silence import silence
    except ImportError as error:
        raise MissingExtraError(
            f"--type needs llama-cpp-python, which cannot be imported ({error}): pip install 'halo-llm[hub]'."
        ) from error
    free, need = shutil.disk_usage(out.parent).free, source.stat().st_size
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.allow_requantize = threads, True
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    with silence():
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), params)
    if failed and free < need:
        raise OSError(errno.ENOSPC, f"{free >> 10} kB were free, and up to {need >> 10} kB are needed")
    if failed:
        raise ModelError(
            f"llama.cpp could not quantise the re-ordered model to {kind}. Leave out --type, and quantise what is "
            "written then with llama.cpp's llama-quantize, which tells more."
        )
