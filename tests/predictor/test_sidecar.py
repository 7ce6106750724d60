"""The sidecar file: what others read in it, and what is refused."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from halo.errors import OutputError, SidecarError
from halo.model import Model, open_model
from halo.model.gguf_write import write_gguf
from halo.predictor import LayerTable, Sidecar, groups_of, read_sidecar, sidecar_path, write_sidecar
from tests.conftest import TinyModel
from tests.tiny_gguf import Shape


@pytest.fixture
def sidecar(model: Model) -> Sidecar:
    random = np.random.default_rng(0)

    def table(bounds: list[int]) -> LayerTable:
        groups, d = len(bounds) - 1, model.spec.d
        mean, predictor = random.standard_normal((2, groups, d)).astype(np.float32)
        bias, significance = random.random((2, groups)).astype(np.float32)
        return LayerTable(bounds, mean, predictor, bias, significance)

    tables = [table(bounds) for bounds in model.grid.mlp]
    return Sidecar(model.identity, model.content, model.name, "pages.txt", "ab" * 32, 12345, tables)


@pytest.fixture
def path(sidecar: Sidecar, tmp_path: Path) -> Path:
    path = tmp_path / "model.halo.gguf"
    write_sidecar(path, sidecar)
    return path


def changed(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new)
    path.write_bytes(data.replace(old, new, 1))


def test_what_is_written_is_read(path: Path, sidecar: Sidecar, model: Model) -> None:
    again = read_sidecar(path, model)
    assert dataclasses.replace(again, layers=[]) == dataclasses.replace(sidecar, layers=[])
    for one, other in zip(again.layers, sidecar.layers, strict=True):
        assert one.bounds == other.bounds
        for name in ("mean", "predictor", "bias", "significance"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert groups_of(path) == 4


def test_other_programs_read_it_as_gguf(path: Path, sidecar: Sidecar) -> None:
    reader = gguf.GGUFReader(path)
    assert reader.fields["halo.model.identity"].contents() == sidecar.identity
    assert reader.fields["halo.token_count"].contents() == 12345
    assert reader.fields["halo.quota.balanced"].contents() == [1, 1]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 8
    np.testing.assert_array_equal(tensors["halo.blk.1.predictor"].data, sidecar.layers[1].predictor)


def test_it_lies_beside_the_model() -> None:
    assert sidecar_path(Path("a/tiny.q4_0.gguf")) == Path("a/tiny.q4_0.halo.gguf")
    assert sidecar_path(Path("a/model")) == Path("a/model.halo.gguf")


def test_a_missing_one_says_how_to_make_it(tmp_path: Path, model: Model) -> None:
    with pytest.raises(SidecarError, match=r"There is no sidecar .*halo calibrate"):
        read_sidecar(tmp_path / "nowhere.gguf", model)


def test_one_of_another_model_is_refused(path: Path, tiny_model: TinyModel) -> None:
    other = open_model(tiny_model("F32", Shape(n_layers=2, ff=64, vocab=330)), mlp_groups=4)
    with pytest.raises(SidecarError, match="another model file"):
        read_sidecar(path, other)


def test_one_of_other_weights_is_refused(path: Path, model: Model, tmp_path: Path) -> None:
    data = bytearray(model.path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (tmp_path / "other.gguf").write_bytes(data)
    other = open_model(tmp_path / "other.gguf", mlp_groups=4)
    assert other.identity == model.identity
    with pytest.raises(SidecarError, match=r"same header as .*other\.gguf, and other weights.*halo calibrate"):
        read_sidecar(path, other)


def test_one_of_another_grid_is_refused(path: Path, model: Model) -> None:
    with pytest.raises(SidecarError, match=r"another grid .* 4 MLP groups there and 8 here"):
        read_sidecar(path, open_model(model.path, mlp_groups=8))


def test_a_model_is_not_a_sidecar(model: Model) -> None:
    with pytest.raises(SidecarError, match="not a sidecar"):
        read_sidecar(model.path, model)


def test_another_version_is_named(path: Path, model: Model) -> None:
    key = b"halo.sidecar.version" + struct.pack("<I", 4)
    changed(path, key + struct.pack("<I", 2), key + struct.pack("<I", 7))
    with pytest.raises(SidecarError, match="version 7; this HALO reads version 2"):
        read_sidecar(path, model)


@pytest.mark.parametrize("name", ["mean", "predictor", "bias", "significance"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(
    name: str, value: float, sidecar: Sidecar, model: Model, tmp_path: Path
) -> None:
    getattr(sidecar.layers[1], name).flat[-1] = value
    write_sidecar(tmp_path / "bad.gguf", sidecar)
    with pytest.raises(SidecarError, match=f"blk.1.{name} has values that are not finite"):
        read_sidecar(tmp_path / "bad.gguf", model)


def test_a_negative_significance_is_refused(sidecar: Sidecar, model: Model, tmp_path: Path) -> None:
    sidecar.layers[0].significance[2] = -1
    write_sidecar(tmp_path / "bad.gguf", sidecar)
    with pytest.raises(SidecarError, match="negative significance"):
        read_sidecar(tmp_path / "bad.gguf", model)


def test_quotas_that_do_not_follow_from_the_tables_are_refused(path: Path, model: Model) -> None:
    key = b"halo.quota.balanced" + struct.pack("<IIQ", 9, 4, 2)
    changed(path, key + struct.pack("<II", 1, 1), key + struct.pack("<II", 1, 4))
    with pytest.raises(SidecarError, match="quotas"):
        read_sidecar(path, model)


def test_wherever_it_is_cut_it_is_refused(path: Path, model: Model) -> None:
    data = path.read_bytes()
    tensors = 4 * (2 * 4 * 64 + 2 * 4) * 2
    for size in [*range(0, len(data) - tensors, 97), len(data) - tensors // 2, len(data) - 17]:
        path.write_bytes(data[:size])
        with pytest.raises(SidecarError):
            read_sidecar(path, model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (struct.pack("<IQ", 3, 8), struct.pack("<IQ", 3, 1 << 60)),  # tensors
        (b"blk.0.mean" + struct.pack("<IQ", 2, 64), b"blk.0.mean" + struct.pack("<IQ", 2, 1 << 62)),
        (b"blk.0.mean" + struct.pack("<IQ", 2, 64), b"blk.0.mean" + struct.pack("<IQ", 2, 1 << 31)),
        (b"blk.0.mean" + struct.pack("<IQ", 2, 64), b"blk.0.mean" + struct.pack("<IQ", 2, 32)),
        (b"halo.model.name" + struct.pack("<IQ", 8, 11), b"halo.model.name" + struct.pack("<IQ", 8, 1 << 40)),
        (b"blk.0.bounds" + struct.pack("<IIQ", 9, 4, 5), b"blk.0.bounds" + struct.pack("<IIQ", 9, 4, 1 << 50)),
        (b"halo.layer_count" + struct.pack("<II", 4, 2), b"halo.layer_count" + struct.pack("<II", 4, 1 << 31)),
        (b"halo.layer_count" + struct.pack("<II", 4, 2), b"halo.layer_count" + struct.pack("<II", 4, 1)),
        (b"halo.blk.1.bias", b"halo.blk.9.bias"),
    ],
)
def test_impossible_sizes_are_refused_without_taking_memory(path: Path, model: Model, old: bytes, new: bytes) -> None:
    changed(path, old, new)
    with pytest.raises(SidecarError):
        read_sidecar(path, model)


def test_random_damage_is_refused_or_harmless(path: Path, model: Model) -> None:
    data = path.read_bytes()
    random = np.random.default_rng(11)
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(0, 1600, 3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_sidecar(path, model)
            groups_of(path)
        except SidecarError:
            continue


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_gguf(path, {}, {"good": np.ones(3, np.float32), "bad": np.array(["not a number"])})
    assert path.read_bytes() == before
    with pytest.raises(OutputError):
        write_gguf(path.parent / "no" / "folder.gguf", {}, {})
    assert [p.name for p in path.parent.iterdir()] == [path.name]
