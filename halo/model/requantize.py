"""Blocks of types that HALO does not compute, as blocks of a type that it does: IQ4_XS as IQ4_NL, all others as Q8_0.

IQ4_XS is IQ4_NL with a scale of 6 bits a block of 32 and one of f16 for eight of them; as IQ4_NL each block has the
product, rounded to f16, and the same values. What others stand for knows the `gguf` package, which is imported only for
them, since it brings others with it that a worker has no use for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from halo import _native

if TYPE_CHECKING:  # only: a worker does without numpy where it can
    import numpy as np
    from numpy.typing import NDArray

_IQ4_XS = 23


@dataclass(frozen=True)
class Requantizer:
    """For the blocks of one type."""

    block: int  # values
    size: int  # bytes
    target: str
    make: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """(rows, bytes) of whole blocks -> (rows, bytes) of the target's."""

    @property
    def target_type(self) -> tuple[int, int, int]:
        """ggml's number, values a block, bytes a block."""
        return _native.weight_types()[self.target]


def requantizer(number: int) -> Requantizer:
    """For ggml's type of this number.

    Raises ImportError where the `gguf` package is wanted and missing, ValueError where not even that knows the type.
    """
    if number == _IQ4_XS:
        return Requantizer(256, 136, "IQ4_NL", _iq4_nl)
    import gguf
    import numpy as np

    try:
        kind = gguf.GGMLQuantizationType(number)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        _q8_0(kind, np.zeros((1, size), np.uint8))
    except (KeyError, NotImplementedError) as e:
        raise ValueError(f"{number} is no type that can be read") from e
    return Requantizer(block, size, "Q8_0", partial(_q8_0, kind))


def _q8_0(kind: Any, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each value is dequantised and rounded by itself, so every device makes the same."""
    import gguf
    import numpy as np

    with np.errstate(all="ignore"):  # a damaged weight shows in what is computed with it
        values = np.ascontiguousarray(gguf.quants.dequantize(blocks, kind), np.float32)
    number, _, _ = _native.weight_types()["Q8_0"]
    made = _native.Kernels(_native.isa()).quantize(number, values)
    return np.frombuffer(made, np.uint8).reshape(len(blocks), -1)


def _iq4_nl(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """f16 scale, upper 2 bits of the 8 scales, their lower 4, 8 times 32 values -> 8 times f16 scale, 32 values."""
    import numpy as np

    eight = blocks.reshape(-1, 136)
    scale = eight[:, :2].view(np.float16).astype(np.float32)
    upper = eight[:, 2:4].view(np.uint16) >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    lower = (eight[:, 4:8, None] >> np.array([0, 4], np.uint8) & 15).reshape(-1, 8)
    made = np.empty((len(eight), 8, 18), np.uint8)
    with np.errstate(all="ignore"):
        scales = (scale * ((upper << 4 | lower).astype(np.float32) - 32)).astype(np.float16)
    made[:, :, :2] = scales[:, :, None].view(np.uint8)
    made[:, :, 2:] = eight[:, 8:].reshape(-1, 8, 16)
    return made.reshape(len(blocks), -1)
