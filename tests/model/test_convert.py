"""Weights of types that are not computed become others when they are loaded: the same bytes everywhere, each part."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from halo import _native
from halo.doctor.models import read_model
from halo.errors import MissingExtraError, ModelError
from halo.model import Model, convert, open_model
from tests.conftest import TinyModel
from tests.tiny_gguf import K_SHAPE

TOKENS = np.arange(3, 40, dtype=np.int32)


def values(model: Model, name: str) -> NDArray[np.float32]:
    """(rows, columns) of a tensor as the gguf package reads it."""
    tensor = model.file.tensors[name]
    kind = gguf.GGMLQuantizationType(tensor.type)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    columns, rows = tensor.shape
    data = np.frombuffer(model.file.data, np.uint8, rows * columns // block * size, tensor.offset)
    read: NDArray[np.float32] = gguf.quants.dequantize(data.reshape(rows, -1), kind)
    return read


PARTS = [(0, 512, 0, 768), (7, 3, 256, 256), (511, 1, 512, 256), (0, 2, 32, 640)]
"""(row, rows, column, columns)"""


def test_any_part_is_what_the_whole_has_there(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q2_K", K_SHAPE))
    name = "blk.1.ffn_down.weight"
    whole = gguf.quants.quantize(values(model, name), gguf.GGMLQuantizationType.Q8_0).reshape(512, -1, 34)
    for row, rows, column, columns in PARTS:
        expected = whole[row : row + rows, column // 32 : (column + columns) // 32]
        assert model.converted.tensors[name](row, rows, column, columns) == expected.tobytes()


def test_iq4_xs_keeps_its_values_but_for_the_rounding_of_a_scale(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("IQ4_XS", K_SHAPE))
    name = "blk.1.ffn_down.weight"
    whole, part = values(model, name), model.converted.tensors[name]
    for row, rows, column, columns in PARTS:
        made = np.frombuffer(part(row, rows, column, columns), np.uint8).reshape(rows, -1)
        assert made.shape[1] == columns // 32 * 18
        expected = whole[row : row + rows, column : column + columns]
        got = gguf.quants.dequantize(made, gguf.GGMLQuantizationType.IQ4_NL)
        np.testing.assert_allclose(got, expected, rtol=2**-11)


def test_the_grid_is_that_of_the_file(tiny_model: TinyModel) -> None:
    native, converted = (open_model(tiny_model(kind, K_SHAPE)) for kind in ("Q4_K", "IQ4_XS"))
    assert converted.grid == native.grid
    assert converted.types == "IQ4_XS"
    assert not native.converted.tensors
    assert converted.file.size < read_model(converted.path).size < 1.1 * converted.file.size
    eight_bits = open_model(tiny_model("Q2_K", K_SHAPE))
    assert (
        read_model(eight_bits.path).size == eight_bits.file.size + eight_bits.converted.growth > 1.5 * native.file.size
    )


def test_a_head_that_is_the_embedding_too_is_counted_twice(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("IQ4_XS", replace(K_SHAPE, tied=True)))
    model.native.load()
    _native.Engine(model.native, 64).forward(0, TOKENS, True)
    once = sum(t.size - t.file_size for t in model.converted.tensors.values())
    assert model.converted.growth - once == model.converted.tensors["token_embd.weight"].size


def test_a_shard_converts_what_it_holds_and_computes_the_same(tiny_model: TinyModel) -> None:
    path = tiny_model("IQ4_XS", K_SHAPE)
    whole, shard = open_model(path), open_model(path)
    whole.native.load()
    made: list[int] = []
    for tensor in shard.converted.tensors.values():
        tensor.told = made.append
    held = _native.shard_masks(shard.native, 0, 3)
    shard.native.load(held, output=False)
    layers = sum(t.size for name, t in shard.converted.tensors.items() if name.startswith("blk."))
    assert 0.3 * layers < sum(made) < 0.6 * layers
    logits = [_native.Engine(m.native, 64).forward(0, TOKENS, True) for m in (whole, shard)]
    assert np.array_equal(*logits)

    shard.native.forget()
    assert np.array_equal(logits[0], _native.Engine(shard.native, 64, threads=2).forward(0, TOKENS, True))


def test_it_says_what_it_costs_and_how_far_it_is(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(tiny_model("Q2_K", K_SHAPE))
    times, lines = iter((100.0, 101.9, 102.0, 105.0, 112.0)), list[str]()
    monkeypatch.setattr(convert.time, "monotonic", lambda: next(times))
    model.converted.tell(lines.append)
    assert len(lines) == 1 and "16 tensors of the type Q2_K (as Q8_0)" in lines[0] and "llama-quantize" in lines[0]
    tensor = model.converted.tensors["blk.0.ffn_up.weight"]
    for _ in range(5):
        tensor(0, 32, 0, 512)
    assert [line.split(": ")[0] for line in lines[1:]] == ["converting weights"] * 2
    open_model(tiny_model("Q4_0")).converted.tell(lines.append)
    assert len(lines) == 3, "nothing to say of a model that is computed natively"


def test_without_the_gguf_package_the_error_says_what_to_install(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    for kind in ("Q3_K", "IQ4_XS"):
        open_model(tiny_model(kind, K_SHAPE)).native.load()
    with pytest.raises(MissingExtraError, match=r"Q2_K.*pip install 'halo-llm\[convert\]'.*llama-quantize"):
        open_model(tiny_model("Q2_K", K_SHAPE))


@pytest.mark.parametrize(("number", "what"), [(26, "I32"), (28, "F64"), (4, "type 4"), (200, "type 200")])
def test_types_that_nobody_can_convert_are_named(number: int, what: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{what} .*blk\.1\.ffn_up.*cannot convert"):
        open_model(of_type(number, tiny_model, tmp_path))


@pytest.mark.parametrize(
    ("number", "what", "usual"),
    [
        (31, "Q4_0_4_4", "Q4_0"),
        (32, "Q4_0_4_8", "Q4_0"),
        (33, "Q4_0_8_8", "Q4_0"),
        (36, "IQ4_NL_4_4", "IQ4_NL"),
        (37, "IQ4_NL_4_8", "IQ4_NL"),
        (38, "IQ4_NL_8_8", "IQ4_NL"),
    ],
)
@pytest.mark.parametrize("installed", [True, False])
def test_for_types_that_llama_cpp_has_removed_another_file_is_advised(
    number: int,
    what: str,
    usual: str,
    installed: bool,
    tiny_model: TinyModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = of_type(number, tiny_model, tmp_path)
    if not installed:
        monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=f"type {what} .*removed.*get the {usual} file of the model"):
        open_model(path)


def of_type(number: int, tiny_model: TinyModel, folder: Path) -> Path:
    """A model one of whose matrices is said to be of this type."""
    whole = tiny_model("Q4_0").read_bytes()
    at = whole.index(b"blk.1.ffn_up.weight") + 19 + 4 + 16
    path = folder / "odd.gguf"
    path.write_bytes(whole[:at] + number.to_bytes(4, "little") + whole[at + 4 :])
    return path


def test_a_truncated_file_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    whole = tiny_model("IQ4_XS", K_SHAPE).read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:-4000])
    with pytest.raises(ModelError, match="truncated"):
        open_model(path)


def test_a_user_of_the_api_is_told(tiny_model: TinyModel) -> None:
    llama = pytest.importorskip("halo.llama")
    lines = list[str]()
    with llama.HaloLlama(tiny_model("IQ4_XS", K_SHAPE), n_ctx=64, log=lines.append) as model:
        model.eval([1, 5, 7])
    assert "IQ4_XS" in lines[0]
