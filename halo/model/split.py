"""A model in one file, or in several: `name-00001-of-00003.gguf` and so on, as llama.cpp's gguf-split writes them.

Each part is a GGUF file with some of the tensors; the first one has the metadata. Offsets of tensors are counted as if
the parts lay one behind the other.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from halo.errors import ModelError
from halo.model.gguf import GgufFile, TensorInfo, read_gguf
from halo.words import clean, shortened, shown

_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_LONGEST_NAME = 80
_NAMED = 3  # missing parts, at most


def stem(path: Path) -> str:
    """The file's name without its ending; what all parts have in common, where it is one of several."""
    named = _NAME.fullmatch(path.name)
    return named[1] if named else path.name.removesuffix(".gguf")


def name_of(file: GgufFile) -> str:
    """What people call the model: it is printed, and sent to others, so cut and without control characters."""
    name = file.metadata.get("general.name")
    return clean(name if name and isinstance(name, str) else stem(file.path), _LONGEST_NAME)


def read_parts(path: Path) -> GgufFile:
    """The headers of the model that `path` is, or is any part of. Raises ModelError: what is wrong and what to try."""
    given = read_gguf(path)
    if _number(given, _COUNT, 1) <= 1:  # 0 is what llama-gguf-split --merge leaves
        return given
    paths = _paths(given)
    parts = [given if part == path else read_gguf(part) for part in paths]
    for i, part in enumerate(parts):
        _check_place(part, i, len(parts))
    return _joined(parts)


def _number(file: GgufFile, key: str, default: int) -> int:
    value = file.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ModelError(f"{file.path}: the metadata key {key} is not a number of parts. Download or copy it again.")
    return value


def _paths(given: GgufFile) -> list[Path]:
    """Of all parts; they are beside the one that was given."""
    number, count = _number(given, _NUMBER, 0) + 1, _number(given, _COUNT, 1)
    named = _NAME.fullmatch(given.path.name)
    if named is None:
        raise ModelError(
            f"{given.path} is part {number} of {count} of a split model, but is not named so: the parts are found by "
            f"names that end in -00001-of-{count:05}.gguf and so on. Give all of them the names that they had."
        )
    if not 1 <= int(named[2]) <= int(named[3]):
        raise ModelError(
            f"{given.path} is named as part {int(named[2])} of {int(named[3])}, and its number is "
            f"{'beyond the count' if int(named[2]) else 'zero'}: it was renamed. Give all parts the names that they "
            f"had, from -00001-of-{count:05}.gguf on."
        )
    _check_place(given, int(named[2]) - 1, int(named[3]))
    paths = [given.path.with_name(f"{named[1]}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ModelError(
            f"{given.path} is one of the {count} parts of a model, and not all are beside it: "
            f"{shortened(missing, _NAMED)} cannot be found. Put all parts into one folder."
        )
    return paths


def _check_place(part: GgufFile, index: int, count: int) -> None:
    """Whether the part is what its name says."""
    held, of = _number(part, _NUMBER, 0), _number(part, _COUNT, 1)
    if (held, of) != (index, count):
        raise ModelError(
            f"{part.path} is named as part {index + 1} of {count}, but holds part {held + 1} of {of}: it was renamed, "
            "or one part was copied over another. Download or copy it again."
        )


def _joined(parts: list[GgufFile]) -> GgufFile:
    first, digest, start = parts[0], hashlib.sha256(), 0
    tensors: dict[str, TensorInfo] = {}
    for part in parts:
        for key, value in part.metadata.items():
            if key != _NUMBER and first.metadata.get(key, value) != value:
                raise _of_different_models(first, part, f"they differ in {shown(key)}")
        for tensor in part.tensors.values():
            if tensor.name in tensors:
                raise _of_different_models(first, part, f"tensor {tensor.name!r} is there twice")
            tensors[tensor.name] = replace(tensor, offset=start + tensor.offset)
        digest.update(memoryview(part.data)[: part.header_end])
        start += part.size
    expected = _number(first, _TENSORS, len(tensors))
    if len(tensors) != expected:
        raise _of_different_models(first, parts[-1], f"there are {len(tensors)} tensors instead of {expected}")
    return replace(first, tensors=tensors, identity=digest.hexdigest(), others=tuple(parts[1:]))


def _of_different_models(first: GgufFile, part: GgufFile, why: str) -> ModelError:
    return ModelError(
        f"{first.path} and {part.path} are not parts of one model: {why}. Download all parts again, into a folder of "
        "their own."
    )
