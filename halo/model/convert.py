"""Weights of types that HALO does not compute: they become Q8_0 when they are loaded, a part at a time.

The `gguf` package knows what the file's bytes stand for. It is imported only for such a model, since it brings others
with it that a worker has no use for. Every device makes the same bytes: each step is one rounding of single values.
"""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from halo import _native
from halo.errors import MissingExtraError, ModelError
from halo.model.gguf import REMOVED_TYPES, GgufFile, TensorInfo

if TYPE_CHECKING:  # only: a worker does without numpy where it can
    import numpy as np
    from numpy.typing import NDArray

_COMPUTED = {number for number, _, _ in _native.weight_types().values()}
_Q8_0, _VALUES, _BYTES = _native.weight_types()["Q8_0"]
_FEW_BITS = 4.2  # a value: what is smaller than Q4_0 is best replaced by Q3_K
_QUIET_S, _AGAIN_S = 2.0, 10.0


class Converted:
    """One tensor. Called for a part of it: `columns` values from `column` on of each of `rows` rows, as Q8_0."""

    def __init__(self, file: GgufFile, tensor: TensorInfo, block: int, size: int) -> None:
        self.tensor = tensor
        self.columns, self.rows = tensor.shape[0], prod(tensor.shape[1:])
        part, self._at = file.place(tensor)
        self._data = part.data
        self._block, self._block_bytes = block, size
        self._stride = self.columns // block * size
        self.told: Callable[[int], None] = lambda made: None
        """Hears of the bytes that were made."""
        if self.columns % block or self.columns % _VALUES or self._at + self._stride * self.rows > len(self._data):
            raise ModelError(
                f"{file.path} has weights of the type {tensor.type_name} (tensor {tensor.name!r}) with the "
                f"impossible shape {tensor.shape}: the file is truncated or damaged; download or copy it again and "
                "compare its size."
            )

    @property
    def file_size(self) -> int:
        return self._stride * self.rows

    @property
    def size(self) -> int:
        return self.rows * self.columns // _VALUES * _BYTES

    def __call__(self, row: int, rows: int, column: int, columns: int) -> bytes:
        made: bytes = _native.Kernels(_native.isa()).quantize(_Q8_0, self._values(row, rows, column, columns))
        self.told(len(made))
        return made

    def _values(self, row: int, rows: int, column: int, columns: int) -> NDArray[np.float32]:
        import gguf
        import numpy as np

        # Of the file's blocks, those in which these columns are: a group's are whole ones, see `Conversion.sizes`.
        first, last = column // self._block, -(-(column + columns) // self._block)
        wide = np.frombuffer(self._data, np.uint8, rows * self._stride, self._at + row * self._stride)
        some = wide.reshape(rows, -1)[:, first * self._block_bytes : last * self._block_bytes]
        with np.errstate(all="ignore"):  # a damaged weight shows in what is computed with it
            values = gguf.quants.dequantize(some, gguf.GGMLQuantizationType(self.tensor.type))
        self._give_back(self._at + row * self._stride, rows * self._stride)
        begin = column - first * self._block
        return np.ascontiguousarray(values[:, begin : begin + columns], np.float32)

    def _give_back(self, at: int, size: int) -> None:
        """Pages of the file that were read are no memory of ours, as where weights are packed as they are."""
        begin = at // mmap.PAGESIZE * mmap.PAGESIZE
        self._data.madvise(mmap.MADV_DONTNEED, begin, at + size - begin)


@dataclass(frozen=True)
class Conversion:
    """What of a model is converted."""

    tensors: dict[str, Converted]
    sizes: dict[int, tuple[int, int]]
    """Of each type that is converted, values and bytes a block: the grid is that of the file, of whole blocks."""
    tied: bool
    """Whether the embedding is the head as well: a hub then has it twice, in rows and packed."""

    @property
    def table(self) -> dict[str, tuple[int, int, int, int]]:
        """(type, rows, columns, offset) as they are computed; nothing lies at the offset."""
        return {name: (_Q8_0, t.rows, t.columns, 0) for name, t in self.tensors.items()}

    @property
    def growth(self) -> int:
        """Bytes of memory beyond those of the file, where all is held."""
        return self._held - sum(t.file_size for t in self.tensors.values())

    @property
    def _held(self) -> int:
        embedding = self.tensors.get("token_embd.weight")
        twice = embedding.size if embedding is not None and self.tied else 0
        return twice + sum(t.size for t in self.tensors.values())

    def tell(self, log: Callable[[str], None]) -> None:
        """Say what it costs, now; and, where it takes longer than two seconds, how far it is."""
        if self.tensors:
            log(self._notice())
            progress = _Progress(sum(t.size for t in self.tensors.values()), log)
            for tensor in self.tensors.values():
                tensor.told = progress

    def _notice(self) -> str:
        tensors = self.tensors.values()
        kinds = Counter(t.tensor.type_name for t in tensors)
        were, are = sum(t.file_size for t in tensors), self._held
        bits = 8 * were / sum(t.rows * t.columns for t in tensors)
        each = ", ".join(f"{n} tensors of the type {kind}" for kind, n in kinds.most_common())
        return (
            f"not computed natively: {each}. They become Q8_0 when they are loaded, which takes time, and "
            f"{_size(are)} of memory in place of {_size(were)} where all are held. llama.cpp's llama-quantize to "
            f"{'Q3_K_M' if bits < _FEW_BITS else 'Q4_K_M'} saves that."
        )


class _Progress:
    """Log lines while tensors are converted: none within the first two seconds, then one every ten."""

    def __init__(self, total: int, log: Callable[[str], None]) -> None:
        self._total, self._log = total, log
        self._made, self._next = 0, 0.0

    def __call__(self, made: int) -> None:
        now = time.monotonic()
        self._made += made
        self._next = self._next or now + _QUIET_S
        if now >= self._next:
            self._next = now + _AGAIN_S
            self._log(f"converting to Q8_0: {_size(self._made)} of {_size(self._total)} done")


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10**8 else f"{size / 1e6:.1f} MB"


def conversion(file: GgufFile) -> Conversion:
    """How the tensors that HALO does not compute are converted: of none, mostly.

    Raises ModelError where they cannot be, MissingExtraError where the package is missing that can.
    """
    others = [t for t in file.tensors.values() if t.type not in _COMPUTED]
    sizes = {t.type: _block(file, t) for t in others}
    tensors = {t.name: Converted(file, t, *sizes[t.type]) for t in others}
    return Conversion(tensors, sizes, tied="output.weight" not in file.tensors)


def _block(file: GgufFile, tensor: TensorInfo) -> tuple[int, int]:
    """Of a type that can be converted: values and bytes of a block."""
    what = f"{file.path} has weights of the type {tensor.type_name} (tensor {tensor.name!r})"
    if tensor.type in REMOVED_TYPES:
        usual = REMOVED_TYPES[tensor.type]
        raise ModelError(
            f"{what}, which llama.cpp has removed, so that its llama-quantize cannot read them: get the {usual} file "
            "of the model. HALO orders weights for the processor itself, when it loads them."
        )
    natively = f"{', '.join(_native.weight_types())}. llama.cpp's llama-quantize makes any of these"
    try:
        import gguf
    except ImportError as e:
        raise MissingExtraError(
            f"{what}, which HALO converts when it loads them, with a package that is not installed here: "
            f"pip install 'halo-llm[convert]'. Without it, HALO computes {natively}."
        ) from e
    try:
        kind = gguf.GGMLQuantizationType(tensor.type)
        block: tuple[int, int] = gguf.GGML_QUANT_SIZES[kind]
        _try(gguf, kind, block[1])
    except (ValueError, KeyError, NotImplementedError) as e:
        raise ModelError(f"{what}, which HALO cannot convert; it computes {natively}.") from e
    return block


def _try(gguf: Any, kind: Any, size: int) -> None:
    import numpy as np

    with np.errstate(all="ignore"):
        gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
