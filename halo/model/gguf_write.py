"""Writes GGUF files, version 3, little endian: metadata and tensors of f32, or a copy of a file with one key more.

Source: the GGUF specification (ggml repository, docs/gguf.md).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from halo.files import whole
from halo.model.gguf import GgufFile

Value = str | int | float | list[int] | list[float]

_ALIGNMENT = 32
_UINT32, _FLOAT32, _STRING, _ARRAY, _UINT64 = 4, 6, 8, 9, 10
_F32 = 0  # ggml's number of the tensor type


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    """A metadata value with its type in front."""
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, list):
        floats = any(isinstance(v, float) for v in value)
        kind, code = (_FLOAT32, "f") if floats else (_UINT32, "I")
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + struct.pack(f"<{len(value)}{code}", *value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if value < 1 << 32:
        return struct.pack("<II", _UINT32, value)
    return struct.pack("<IQ", _UINT64, value)


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)


def write_gguf(path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write `path`: a file that was there stays until the new one is whole and on the disk."""
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    header += [_string(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for name, values in tensors.items():
        shape = values.shape[::-1]  # the fastest dimension first
        header.append(_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        header.append(struct.pack("<IQ", _F32, offset))
        offset += values.size * 4 + len(_padding(values.size * 4))
    head = b"".join(header)
    with whole(path) as temporary, temporary.open("wb") as file:
        file.write(head + _padding(len(head)))
        for values in tensors.values():
            data = np.ascontiguousarray(values, "<f4").tobytes()
            file.write(data + _padding(len(data)))
        file.flush()
        os.fsync(file.fileno())


def copy_header(source: GgufFile, file: BinaryIO, key: str, text: str) -> int:
    """Write the header of `source` with this key added, up to where the tensors' data begins: their offsets stay.

    Returns how much further into the file that data lies than in the source.
    """
    n_keys, end = source.keys
    alignment = int(source.metadata.get("general.alignment", _ALIGNMENT))
    added = _string(key) + _value(text)
    head = bytearray(source.data[:end] + added + source.data[end : source.header_end])
    struct.pack_into("<Q", head, 16, n_keys + 1)
    head += bytes(-len(head) % alignment)
    file.write(head)
    return len(head) - source.start
