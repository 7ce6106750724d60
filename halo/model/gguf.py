"""Reads a GGUF file's header: metadata and the table of tensors. Nothing in the file is trusted.

Source: the GGUF specification (ggml repository, docs/gguf.md), versions 2 and 3, little endian.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import pwd
import shlex
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halo.errors import ModelError
from halo.model.foreign import HEAD, what_it_is, why_no_file
from halo.words import shown

# ggml's names for its tensor types, for messages about those that HALO does not compute (yet).
TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0",
    36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8", 39: "MXFP4",
}  # fmt: skip

# Those that ggml has no more, and what was re-ordered in them for some processors.
REMOVED_TYPES = {31: "Q4_0", 32: "Q4_0", 33: "Q4_0", 36: "IQ4_NL", 37: "IQ4_NL", 38: "IQ4_NL"}

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_MAX_STRING = 1 << 24
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 16
_MAX_NAME = 64  # of a tensor, as ggml has it
_MAX_KEPT_ARRAY = 1024  # longer arrays (a vocabulary) are skipped: they are llama.cpp's business


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the table describes it: shape with the fastest dimension first, offset from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def type_name(self) -> str:
        return TYPE_NAMES.get(self.type, f"type {self.type}")


@dataclass(frozen=True)
class GgufFile:
    """A mapped GGUF file. `metadata` leaves out arrays of more than 1024 entries.

    Of a split file this is the first part, with what all parts have: see `split`.
    """

    path: Path
    data: mmap.mmap
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    identity: str  # SHA-256 of header and tensor table, 64 hex digits
    size: int
    keys: tuple[int, int]  # number of metadata keys, and where they end in the file
    header_end: int  # where the tensor table ends
    start: int  # of the tensors' data
    others: tuple[GgufFile, ...] = ()  # the parts after this one; tensors' offsets go on in them

    @property
    def parts(self) -> tuple[GgufFile, ...]:
        """The files in order, each with its own `data`."""
        return (self, *self.others)

    @property
    def total_size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    def place(self, tensor: TensorInfo) -> tuple[GgufFile, int]:
        """The part that the tensor is in, and where it begins there."""
        at, parts = tensor.offset, iter(self.parts)
        part = next(parts)
        while at >= part.size:
            at -= part.size
            part = next(parts)
        return part, at


class _Reader:
    """Walks the header; every read is checked against the end of the file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def fail(self, why: str) -> ModelError:
        return ModelError(
            f"{self.path} is not a usable GGUF file: {why}. It may be truncated or damaged; "
            "download or copy it again and compare its size."
        )

    def unpack(self, fmt: str) -> Any:
        try:
            (value,) = struct.unpack_from("<" + fmt, self.data, self.at)
        except struct.error:
            raise self.fail("it ends inside its header") from None
        self.at += struct.calcsize(fmt)
        return value

    def skip(self, n: int) -> None:
        if n > len(self.data) - self.at:
            raise self.fail("it ends inside its header")
        self.at += n

    def string(self) -> str:
        n = self.unpack("Q")
        if n > _MAX_STRING:
            raise self.fail(f"a string claims to be {n} bytes long")
        start = self.at
        self.skip(n)
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise self.fail(f"a metadata value has the unknown type {kind}")
        value = self.unpack(_SCALARS[kind])
        return bool(value) if kind == _BOOL else value

    def array(self) -> list[Any] | None:
        kind, n = self.unpack("I"), self.unpack("Q")
        if n <= _MAX_KEPT_ARRAY and kind != _ARRAY:
            return [self.value(kind) for _ in range(n)]
        if kind in _SCALARS:
            self.skip(n * struct.calcsize(_SCALARS[kind]))
        elif kind == _STRING:
            self.skip_strings(n)
        else:
            raise self.fail("it has an array of arrays")
        return None

    def strings(self, n: int) -> list[bytes]:
        size, at, read, found = len(self.data), self.at, struct.Struct("<Q").unpack_from, []
        for _ in range(n):
            if at + 8 > size:
                raise self.fail("it ends inside its header")
            start = at + 8
            at = start + read(self.data, at)[0]
            found.append(self.data[start:at])
        if at > size:
            raise self.fail("it ends inside its header")
        self.at = at
        return found

    def skip_strings(self, n: int) -> None:
        size, at, read = len(self.data), self.at, struct.Struct("<Q").unpack_from
        for _ in range(n):
            if at + 8 > size:
                raise self.fail("it ends inside its header")
            at += 8 + read(self.data, at)[0]
        if at > size:
            raise self.fail("it ends inside its header")
        self.at = at


def _map(path: Path) -> mmap.mmap:
    try:
        if not path.is_file():
            raise ModelError(f"The model file {path} {why_no_file(path)}")
        with path.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size < 32:
                what = f"has only {size} bytes, too few for" if size else "is empty, and so not"
                raise ModelError(f"The model file {path} {what} a GGUF file: download or copy it again.")
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as e:
        raise ModelError(f"The model file {path} cannot be read: {e.strerror or e}.{_what_to_try(path, e)}") from e


def _what_to_try(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOMEM:
        return " Raise the limit (ulimit -v), or take a smaller model."
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return (
        f" HALO runs as the user {user}: let that user read it (chmod a+r {shlex.quote(str(path))}) and enter its "
        "folder (chmod a+x)."
    )


def _read_header(reader: _Reader) -> tuple[int, int]:
    """Returns the numbers of tensors and of metadata keys."""
    if reader.data[:4] != b"GGUF":
        raise ModelError(f"{reader.path} is not a GGUF file: {what_it_is(reader.data[:HEAD])}")
    reader.at = 4
    version = reader.unpack("I")
    if version and version & 0xFFFF == 0:
        raise ModelError(
            f"{reader.path} is a GGUF file for big-endian machines, and HALO runs on little-endian ones: get the file "
            "for these, or convert it with llama.cpp's gguf_convert_endian.py."
        )
    if version == 1:
        raise ModelError(f"{reader.path} is of GGUF version 1, of 2023, and HALO reads 2 and 3: get a newer file.")
    if version not in (2, 3):
        raise reader.fail(f"its GGUF version is {version}, HALO reads 2 and 3")
    tensors, keys = reader.unpack("Q"), reader.unpack("Q")
    if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
        raise reader.fail(f"it claims {tensors} tensors and {keys} metadata keys")
    return tensors, keys


def _read_tensors(reader: _Reader, n: int) -> list[tuple[str, tuple[int, ...], int, int]]:
    table = []
    for _ in range(n):
        name, n_dims = reader.string(), reader.unpack("I")
        if len(name) > _MAX_NAME:
            raise reader.fail(f"a tensor has a name of {len(name)} characters")
        if not 1 <= n_dims <= 4:
            raise reader.fail(f"tensor {name!r} has {n_dims} dimensions")
        shape = tuple(reader.unpack("Q") for _ in range(n_dims))
        if not all(0 < extent <= 1 << 31 for extent in shape):
            raise reader.fail(f"tensor {name!r} has the impossible shape {shape}")
        table.append((name, shape, reader.unpack("I"), reader.unpack("Q")))
    return table


def read_gguf(path: Path) -> GgufFile:
    """Map `path` and read its header. Raises ModelError with what is wrong and what to try."""
    data = _map(path)
    reader = _Reader(data, path)
    n_tensors, n_keys = _read_header(reader)
    metadata: dict[str, Any] = {}
    known: set[str] = set()
    for _ in range(n_keys):
        key, kind = reader.string(), reader.unpack("I")
        if key in known:
            raise reader.fail(f"the metadata key {shown(key)} is there twice")
        known.add(key)
        value = reader.value(kind)
        if value is not None:
            metadata[key] = value
    keys = n_keys, reader.at
    table = _read_tensors(reader, n_tensors)
    identity = hashlib.sha256(memoryview(data)[: reader.at]).hexdigest()
    data.madvise(mmap.MADV_DONTNEED, 0, reader.at)  # megabytes of vocabulary that nobody here looks at again
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment % 8:
        raise reader.fail(f"its alignment is {shown(alignment)}")
    start = -(-reader.at // alignment) * alignment
    tensors = {}
    for name, shape, kind, offset in table:
        if offset % alignment or start + offset >= len(data):
            raise reader.fail(f"tensor {name!r} starts at an impossible place")
        tensors[name] = TensorInfo(name, shape, kind, start + offset)
    if len(tensors) != len(table):
        raise reader.fail("two tensors have the same name")
    return GgufFile(path, data, metadata, tensors, identity, len(data), keys, reader.at, start)


@dataclass(frozen=True)
class Array:
    """A metadata array that `GgufFile.metadata` may leave out: its length, and its entries where these are strings."""

    length: int
    strings: list[bytes] | None


def read_arrays(file: GgufFile, keys: Collection[str]) -> dict[str, Array]:
    """Those of these metadata arrays that the file has. Raises ModelError, as `read_gguf` does."""
    reader = _Reader(file.data, file.path)
    _, n_keys = _read_header(reader)
    found: dict[str, Array] = {}
    for _ in range(n_keys):
        key, kind = reader.string(), reader.unpack("I")
        if key not in keys or kind != _ARRAY:
            reader.value(kind)
            continue
        at = reader.at
        of, length = reader.unpack("I"), reader.unpack("Q")
        if of == _STRING:
            found[key] = Array(length, reader.strings(length))
        else:
            reader.at = at
            reader.array()
            found[key] = Array(length, None)
        if len(found) == len(keys):
            break  # what follows, such as the merges, is long
    return found
