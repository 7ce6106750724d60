"""A digest of samples of the weights, by which copies with the same header and other weights are told apart.

Reading all of a model takes minutes from an SD card; a page of each tensor takes a moment.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from math import prod

from halo.model.gguf import GgufFile

_SAMPLE = 4096
"""Bytes, and where samples begin: not this device's page size, for others may have another."""


def digest_of_samples(file: GgufFile, sizes: Mapping[int, tuple[int, int]]) -> str:
    """SHA-256, 64 hex digits, of up to 4 KiB from the middle of each tensor, in the order of the tensor table.

    `sizes`: of each type, values and bytes a block. Of a tensor that ends beyond its file it is what there is.
    """
    digest = hashlib.sha256()
    for part in file.parts:
        part.data.madvise(mmap.MADV_RANDOM)  # else the system reads 128 KiB around each sample
    for tensor in file.tensors.values():
        part, at = file.place(tensor)
        block, size = sizes[tensor.type]
        spare = max(prod(tensor.shape) // block * size - _SAMPLE, 0)
        begin = at + spare // 2 // _SAMPLE * _SAMPLE
        digest.update(part.data[begin : begin + _SAMPLE])
    for part in file.parts:
        part.data.madvise(mmap.MADV_DONTNEED)  # pages that nobody needs now are no memory of ours
        part.data.madvise(mmap.MADV_NORMAL)
    return digest.hexdigest()
