"""Quality levels: what a user may say, what is used, and why it may be less."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import halo
from halo import HaloLlama
from halo.errors import SidecarError
from halo.model import Model, open_model
from halo.quality import EXACT, Quality, QualityControl, parse_quality, why_not_relaxed


class Engine:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def set_tolerance(self, tables: Any) -> None:
        self.told.append(len(tables))

    def set_quality(self, share: float, planned: bool = False) -> None:
        self.told.append((share, planned))


def control(model: Path, sidecar: Path | None = None) -> tuple[QualityControl, Engine, list[str]]:
    engine, lines = Engine(), list[str]()
    return QualityControl(open_model(model), sidecar, engine, lines.append), engine, lines


@pytest.mark.parametrize(
    ("wish", "quality"),
    [
        ("exact", EXACT),
        ("balanced", Quality("balanced", 0.25)),
        ("fast", Quality("fast", 0.5)),
        (0.3, Quality("0.3", 0.3)),
        ("0.75", Quality("0.75", 0.75)),
        (0, EXACT),
        ("late:0.25", Quality("late:0.25", 0.25, planned=True)),
    ],
)
def test_a_quality_is_a_level_or_a_share(wish: str | float, quality: Quality) -> None:
    assert parse_quality(wish) == quality


@pytest.mark.parametrize("wish", ["best", "", "1.5", -0.1, "nan", "late:", "late:2", "inf"])
def test_anything_else_is_refused_with_what_may_be_said(wish: str | float) -> None:
    with pytest.raises(ValueError, match="exact, balanced, fast, a number from 0 to 1"):
        parse_quality(wish)


def test_with_a_sidecar_the_default_is_balanced(calibrated: Path) -> None:
    quality, engine, lines = control(calibrated)
    assert quality.set(None) == Quality("balanced", 0.25)
    assert engine.told == [open_model(calibrated).spec.n_layers, (0.25, False)]
    assert quality.set("late:0.5").planned
    assert quality.set("exact") == EXACT
    assert engine.told[2:] == [(0.5, True), (0.0, False)]
    assert not lines
    assert quality.report({})["sidecar"] == str(calibrated.with_name("demo.halo.gguf"))


def test_without_a_sidecar_everything_is_exact_and_only_a_wish_for_less_is_answered(
    calibrated: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(calibrated, tmp_path / "alone.gguf"))
    quality, engine, lines = control(model)
    assert quality.set(None) == EXACT
    assert not lines
    assert quality.set("fast") == EXACT
    assert "halo calibrate" in lines[0]
    assert not engine.told
    assert quality.report({})["reason"] in lines[0]
    shutil.copy(calibrated, model)
    shutil.copy(calibrated.with_name("demo.halo.gguf"), tmp_path / "alone.halo.gguf")  # made meanwhile
    assert quality.set("fast").level == "fast"


@pytest.mark.parametrize("length", [250, 251, 255])
def test_a_model_with_the_longest_of_names_has_no_sidecar(calibrated: Path, tmp_path: Path, length: int) -> None:
    model = Path(shutil.copy(calibrated, tmp_path / f"{'a' * (length - 5)}.gguf"))
    quality, _, lines = control(model)
    assert quality.set(None) == EXACT and not lines
    assert quality.set("fast") == EXACT and "there is no sidecar" in lines[0]
    assert isinstance(halo.generate("Once", model=model, max_tokens=2), str)


@pytest.mark.parametrize(
    "damage", ["truncated", "nonsense", "missing", "a folder", "of another model", "a name beyond all bounds"]
)
def test_a_sidecar_that_cannot_be_used_is_an_error_where_it_is_named_and_else_told(
    calibrated: Path, tmp_path: Path, damage: str
) -> None:
    sidecar = tmp_path / "given.halo.gguf"
    whole = calibrated.with_name("demo.halo.gguf").read_bytes()
    model = calibrated
    if damage == "truncated":
        sidecar.write_bytes(whole[: len(whole) // 2])
    elif damage == "nonsense":
        sidecar.write_bytes(b"GGUF" + bytes(range(256)))
    elif damage == "a folder":
        sidecar = tmp_path
    elif damage == "a name beyond all bounds":
        sidecar = tmp_path / ("a" * 5000)
    elif damage == "of another model":
        sidecar.write_bytes(whole)
        model = tmp_path / "other.gguf"
        model.write_bytes(calibrated.read_bytes().replace(b"general.name", b"general.nama", 1))
    with pytest.raises(SidecarError):
        control(model, sidecar)
    if damage in ("missing", "a folder", "a name beyond all bounds"):
        return  # there is none to be found
    beside = Path(shutil.copy(model, tmp_path / "beside.gguf"))
    shutil.copy(sidecar, tmp_path / "beside.halo.gguf")
    quality, engine, lines = control(beside)
    assert quality.set(None) == EXACT
    assert len(lines) == 1 and "exact" in lines[0]
    assert quality.report({})["reason"] and not engine.told


def test_a_norm_after_the_block_rules_tolerance_out() -> None:
    """HALO opens no such model yet; a correction would be wrong in it."""
    model = cast(Model, SimpleNamespace(file=SimpleNamespace(tensors={"blk.0.post_ffw_norm.weight": None})))
    assert "post_ffw_norm" in str(why_not_relaxed(model))


def test_quality_can_be_changed_between_two_calls(calibrated: Path) -> None:
    with HaloLlama(calibrated, n_threads=1) as llama:
        assert llama.quality == "balanced"
        exact = llama.create_completion("Once upon a time", max_tokens=8, temperature=0)["choices"][0]["text"]
        llama.quality = "fast"
        assert llama.quality == "fast"
        # Nobody is late on a hub alone.
        assert llama.create_completion("Once upon a time", max_tokens=8, temperature=0)["choices"][0]["text"] == exact
        report = llama.report()["quality"]
        assert report["level"] == "fast" and report["late_share"] == 0 and 0 < report["tolerant_share"] < 0.5
        llama.quality = "exact"
        assert llama.quality == "exact"
        with pytest.raises(ValueError, match="balanced"):
            llama.quality = "splendid"


def test_exact_forgets_what_was_made_when_something_was_late(calibrated: Path) -> None:
    """The cache holds what late groups have left in it, and the next prompt may begin with that very text."""

    def logits(llama: HaloLlama, tokens: list[int]) -> Any:
        next(llama.generate(tokens, temp=0.0))
        return llama.scores[0].copy()

    with HaloLlama(calibrated, n_threads=1, quality="fast") as llama:
        assert llama._cell_engine is not None
        llama._cell_engine._engine.inject_lateness(0.9)
        tokens = llama.prompt_tokens("Once upon a time")
        for token in llama.generate(list(tokens), temp=0.0):
            tokens.append(token)
            if len(tokens) == 40:
                break
        relaxed = logits(llama, tokens)
        llama.quality = "exact"
        exact = logits(llama, tokens)
    with HaloLlama(calibrated, n_threads=1, quality="exact") as other:
        assert (logits(other, tokens) == exact).all()
    assert (relaxed != exact).any()


def test_what_the_cache_holds_is_kept_while_the_quality_stays(calibrated: Path) -> None:
    with HaloLlama(calibrated, n_threads=1) as llama:
        tokens = llama.prompt_tokens("Once upon a time there was")
        next(llama.generate(tokens, temp=0.0))
        llama.quality = llama.quality
        done = llama._engine.stats()["tokens"]
        next(llama.generate([*tokens, 300], temp=0.0))
        assert llama._engine.stats()["tokens"] == done + 1


def test_options_take_a_quality_for_one_call(calibrated: Path) -> None:
    text = halo.generate("Once upon a time", model=calibrated, quality=0.1, temperature=0, max_tokens=4, threads=1)
    assert text
    with pytest.raises(ValueError, match="quality"):
        halo.generate("Once", model=calibrated, quality="none")
