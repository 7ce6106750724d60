"""Weights of types that HALO does not compute: they become others when they are loaded, a part at a time."""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from halo import _native
from halo.errors import MissingExtraError, ModelError
from halo.model.gguf import REMOVED_TYPES, GgufFile, TensorInfo
from halo.model.requantize import Requantizer, requantizer

_COMPUTED = {number for number, _, _ in _native.weight_types().values()}
_FEW_BITS = 4.2  # a value: what is smaller than Q4_0 is best replaced by Q3_K
_AROUND = 2 << 20  # bytes of a file before those that are read: the kernel may map them as well, and again
_QUIET_S, _AGAIN_S = 2.0, 10.0


class Converted:
    """One tensor. Called for a part of it: `columns` values from `column` on of each of `rows` rows, as `target`."""

    def __init__(self, file: GgufFile, tensor: TensorInfo, how: Requantizer) -> None:
        self.tensor, self.target = tensor, how.target
        self.columns, self.rows = tensor.shape[0], prod(tensor.shape[1:])
        part, self._at = file.place(tensor)
        self._data, self._how = part.data, how
        self._number, self._values, self._bytes = how.target_type
        self._stride = self.columns // how.block * how.size
        self.told: Callable[[int], None] = lambda made: None
        """Hears of the bytes that were made."""
        if (
            self.columns % how.block
            or self.columns % self._values
            or self._at + self._stride * self.rows > len(self._data)
        ):
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
        return self.rows * self.columns // self._values * self._bytes

    @property
    def row(self) -> tuple[int, int, int, int]:
        """Of the table of tensors: (type, rows, columns, offset) as they are computed; nothing lies at the offset."""
        return self._number, self.rows, self.columns, 0

    def __call__(self, row: int, rows: int, column: int, columns: int) -> bytes:
        import numpy as np  # not before: a worker does without it where it can

        # Of the file's blocks, those in which these columns are: a group's are whole ones, see `Conversion.sizes`.
        block, size = self._how.block, self._how.size
        first, last = column // block, -(-(column + columns) // block)
        wide = np.frombuffer(self._data, np.uint8, rows * self._stride, self._at + row * self._stride)
        some = np.ascontiguousarray(wide.reshape(rows, -1)[:, first * size : last * size])
        made = self._how.make(some).reshape(rows, -1, self._bytes)
        self._give_back(self._at + row * self._stride, rows * self._stride)
        begin = (column - first * block) // self._values
        wanted = made[:, begin : begin + columns // self._values].tobytes()
        self.told(len(wanted))
        return wanted

    def _give_back(self, at: int, size: int) -> None:
        """Pages of the file that were read are no memory of ours, as where weights are packed as they are."""
        begin = max(at - _AROUND, 0) // mmap.PAGESIZE * mmap.PAGESIZE
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
        """The rows of those tensors in the table of all."""
        return {name: t.row for name, t in self.tensors.items()}

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
        kinds = Counter((t.tensor.type_name, t.target) for t in tensors)
        each = ", ".join(f"{n} tensors of the type {kind} (as {target})" for (kind, target), n in kinds.most_common())
        were, are = sum(t.file_size for t in tensors), self._held
        said = (
            f"converted when they are loaded: {each}. That takes time, and {_size(are)} of memory in place of "
            f"{_size(were)} where all are held."
        )
        few = [t for t in tensors if t.target == "Q8_0"]
        if few:
            bits = 8 * sum(t.file_size for t in few) / sum(t.rows * t.columns for t in few)
            said += f" llama.cpp's llama-quantize to {'Q3_K_M' if bits < _FEW_BITS else 'Q4_K_M'} saves that."
        return said


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
            self._log(f"converting weights: {_size(self._made)} of {_size(self._total)} done")


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10**8 else f"{size / 1e6:.1f} MB"


def conversion(file: GgufFile) -> Conversion:
    """How the tensors that HALO does not compute are converted: of none, mostly.

    Raises ModelError where they cannot be, MissingExtraError where the package is missing that can.
    """
    others = [t for t in file.tensors.values() if t.type not in _COMPUTED]
    ways = {t.type: _way(file, t) for t in others}
    tensors = {t.name: Converted(file, t, ways[t.type]) for t in others}
    sizes = {number: (how.block, how.size) for number, how in ways.items()}
    return Conversion(tensors, sizes, tied="output.weight" not in file.tensors)


def _way(file: GgufFile, tensor: TensorInfo) -> Requantizer:
    """How this one is converted, and others of its type."""
    what = f"{file.path} has weights of the type {tensor.type_name} (tensor {tensor.name!r})"
    if tensor.type in REMOVED_TYPES:
        usual = REMOVED_TYPES[tensor.type]
        raise ModelError(
            f"{what}, which llama.cpp has removed, so that its llama-quantize cannot read them: get the {usual} file "
            "of the model. HALO orders weights for the processor itself, when it loads them."
        )
    natively = f"{', '.join(_native.weight_types())}. llama.cpp's llama-quantize makes any of these"
    try:
        return requantizer(tensor.type)
    except ImportError as e:
        raise MissingExtraError(
            f"{what}, which HALO converts when it loads them, with a package that is not installed here: "
            f"pip install 'halo-llm[convert]'. Without it, HALO computes {natively}."
        ) from e
    except ValueError as e:
        raise ModelError(f"{what}, which HALO cannot convert; it computes {natively}.") from e
