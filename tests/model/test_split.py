"""Models in several files: any part opens all of them, and parts that do not belong together are named."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halo import ModelError
from halo.doctor.models import read_model
from halo.model import open_model
from halo.predictor import sidecar_path
from halo.predictor.reorder import check_source
from tests.conftest import TinyModel
from tests.native.in_process import alone
from tests.tiny_gguf import Shape

TOKENS = np.array([1, 70, 80, 90], np.int32)
SPLIT = Shape(split=7)  # 30 tensors in 5 files
OTHER = Shape(split=7, tied=True)  # 29 in 5


@pytest.fixture
def parts(tiny_model: TinyModel, tmp_path: Path) -> list[Path]:
    """Copies of the files of a split model."""
    return copies(tiny_model("Q8_0", SPLIT), tmp_path / "model")


def copies(first: Path, folder: Path) -> list[Path]:
    folder.mkdir()
    ending = len("-00001-of-00005.gguf")
    found = sorted(first.parent.glob(f"{first.name[:-ending]}-*.gguf"))
    return [Path(shutil.copy(path, folder / f"m{path.name[-ending:]}")) for path in found]


def test_any_part_opens_the_model(parts: list[Path], tiny_model: TinyModel) -> None:
    whole = open_model(tiny_model("Q8_0", Shape()))
    opened = [open_model(part) for part in parts]
    assert len(parts) == 5
    assert {model.path for model in opened} == {parts[0]}
    assert {model.identity for model in opened}.isdisjoint({whole.identity}) and len({m.identity for m in opened}) == 1
    assert opened[3].size == sum(part.stat().st_size for part in parts) == read_model(parts[4]).size
    assert opened[3].spec == whole.spec and opened[3].grid == whole.grid
    assert np.array_equal(alone(opened[3], TOKENS), alone(whole, TOKENS))


def test_what_gguf_split_has_merged_is_one_file(tiny_model: TinyModel) -> None:
    left = (("split.no", 0), ("split.count", 0), ("split.tensors.count", 30))
    path = tiny_model("Q8_0", Shape(metadata=left))
    merged = open_model(path)
    check_source(merged)
    assert merged.file.parts == (merged.file,) and merged.size == read_model(path).size == path.stat().st_size
    assert np.array_equal(alone(merged, TOKENS), alone(open_model(tiny_model("Q8_0", Shape())), TOKENS))


def test_all_parts_have_one_sidecar(parts: list[Path]) -> None:
    assert {sidecar_path(part) for part in parts} == {parts[0].with_name("m.halo.gguf")}
    assert sidecar_path(Path("stories.gguf")) == Path("stories.halo.gguf")


def test_the_identity_covers_the_headers_of_all_parts(parts: list[Path]) -> None:
    before = open_model(parts[0]).identity
    changed = bytearray(parts[3].read_bytes())
    changed[changed.index(b"split.tensors.count") + len("split.tensors.count")] = 4  # u32 instead of i32
    parts[3].write_bytes(changed)
    assert open_model(parts[0]).identity != before


def copy_over(parts: list[Path]) -> None:
    shutil.copy(parts[1], parts[2])


def rename(parts: list[Path]) -> None:
    parts[0].rename(parts[0].with_name("model.gguf"))


def cut(parts: list[Path]) -> None:
    data = parts[3].read_bytes()
    parts[3].write_bytes(data[:-100])


def cut_off(parts: list[Path]) -> None:
    """At the last tensor's beginning."""
    whole = open_model(parts[0]).file
    last, at = max((whole.place(tensor) for tensor in whole.tensors.values()), key=lambda p: (str(p[0].path), p[1]))
    del whole
    assert last.path == parts[4]
    parts[4].write_bytes(parts[4].read_bytes()[:at])


def say_nothing(parts: list[Path]) -> None:
    parts[2].write_bytes(b"<html>" + bytes(100))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda parts: parts[2].unlink(), r"one of the 5 parts.*: m-00003-of-00005\.gguf cannot be found"),
        (lambda parts: [part.unlink() for part in parts[1:]], r"m-00004-of-00005\.gguf and 1 more cannot be found"),
        (copy_over, r"00003-of-00005\.gguf is named as part 3 of 5, but holds part 2 of 5"),
        (rename, r"model\.gguf is part 1 of 5 of a split model, but is not named so"),
        (lambda parts: parts[0].write_bytes(parts[0].read_bytes()[:-100]), r"00001-of-00005\.gguf is truncated"),
        (cut, r"00004-of-00005\.gguf is truncated or damaged"),
        (cut_off, r"00005-of-00005\.gguf is not a usable GGUF file.*impossible place"),
        (say_nothing, r"00003-of-00005\.gguf is not a GGUF file"),
    ],
)
def test_parts_that_are_not_what_they_should_be_are_named(
    parts: list[Path], harm: Callable[[list[Path]], object], message: str
) -> None:
    harm(parts)
    with pytest.raises(ModelError, match=message):
        open_model(parts[0] if parts[0].exists() else parts[0].with_name("model.gguf"))


def test_a_number_beyond_the_count_is_named(parts: list[Path]) -> None:
    with pytest.raises(ModelError, match=r"named as part 7 of 5, and its number is beyond the count: it was renamed"):
        open_model(parts[0].rename(parts[0].with_name("m-00007-of-00005.gguf")))


@pytest.mark.parametrize("number", [1, 4])
def test_parts_of_different_models_are_refused(
    parts: list[Path], number: int, tiny_model: TinyModel, tmp_path: Path
) -> None:
    shutil.copy(copies(tiny_model("Q8_0", OTHER), tmp_path / "other")[number], parts[number])
    with pytest.raises(ModelError, match="not parts of one model"):
        open_model(parts[0])


def test_flipped_bits_in_the_header_of_a_part_are_survived(parts: list[Path]) -> None:
    whole, drawn = parts[1].read_bytes(), random.Random(8)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[drawn.randrange(700)] ^= 1 << drawn.randrange(8)
        parts[1].write_bytes(damaged)
        try:
            open_model(parts[0])
        except ModelError as error:
            assert re.search(r"m-0000", str(error))


def test_a_split_model_is_not_reordered(parts: list[Path]) -> None:
    with pytest.raises(ModelError, match="llama-gguf-split --merge"):
        check_source(open_model(parts[0]))
