"""Relaxed syncs: devices that fade, what that costs in time and in quality, and the other ways to deal with it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import Sample, alternate
from benchmarks.trouble.rows import Row, Run, Scenario
from benchmarks.trouble.stage import GOOD, Scene, Stage
from halo import _native
from halo.cell.native import Masks
from halo.errors import HaloError
from halo.model import Model, open_model
from halo.perplexity import Comparison, predictions_of, run, sequences_of
from halo.predictor import Sidecar, read_sidecar, read_text
from halo.predictor.text import open_tokenizer
from tests.tiny_gguf import Shape, write_tiny

DEEP = Shape(d=256, n_layers=22, n_heads=8, n_kv_heads=4, ff=704, n_ctx=512)  # as many syncs as TinyLlama has
_FADES = replace(GOOD, loss=0.2, fade_ms=20)
_WORKERS, _UNSTABLE = 4, (3, 4)
_STRETCH = 12
_PACE_US = 2000  # of every request, the hub's stand-ins included
_PREDICTIONS = 800


@dataclass(frozen=True)
class Way:
    """One way to deal with fades, as a scene of its own."""

    name: str
    quality: str
    stand_ins: bool = True
    correct: bool = True
    bar: float | None = None


_WAYS = (
    Way("fast", "fast", bar=1.15),
    Way("balanced", "balanced"),
    Way("exact, the hub stands in", "exact"),
    Way("wait for all", "exact", stand_ins=False),
    Way("fast, what is late is dropped", "fast", correct=False),
)


def calibrated(model: Path, folder: Path) -> Path:
    """A sidecar of a model, made here."""
    sidecar = folder / f"{model.stem}.halo.gguf"
    command = [sys.executable, "-m", "halo.cli", "calibrate", "-m", str(model), "-o", str(sidecar)]
    done = subprocess.run([*command, "--tokens", "8192"], capture_output=True, text=True)
    if done.returncode != 0:
        raise HaloError(f"halo calibrate failed: {done.stderr.strip()}")
    return sidecar


def _bottom_halves(model: Model, sidecar: Sidecar) -> list[int]:
    """By layer, the half of the MLP groups that matters least on average; none where nothing may be late."""
    halves = []
    for layer, table in enumerate(sidecar.layers):
        order = table.significance.argsort(kind="stable")
        inner = 0 < layer < model.spec.n_layers - 1
        halves.append(sum(1 << int(g) for g in order[: len(order) // 2]) if inner else 0)
    return halves


def deal(stage: Stage, sidecar: Path) -> None:
    """The unstable workers alone hold those halves, and nothing else; everybody else all the rest."""
    model = stage.model
    halves = _bottom_halves(model, read_sidecar(sidecar, model))
    whole: Masks = _native.shard_masks(model.native, 0, 1)
    rest: Masks = [(attention, mlp & ~half) for (attention, mlp), half in zip(whole, halves, strict=True)]
    shared = [_split(half) for half in halves]
    workers = {k: rest for k in stage.workers if k not in _UNSTABLE}
    for i, k in enumerate(_UNSTABLE):
        workers[k] = [(0, parts[i]) for parts in shared]
    stage.deal(rest, workers)


def _split(mask: int) -> tuple[int, int]:
    """Every other group."""
    groups = [g for g in range(64) if mask >> g & 1]
    return sum(1 << g for g in groups[::2]), sum(1 << g for g in groups[1::2])


def scene(model: Path, sidecar: Path, way: Way) -> Scene:
    return Scene(
        model,
        workers=_WORKERS,
        pace_us=_PACE_US,
        hub_pace_us=_PACE_US,
        plan="even",
        hub_share=0.0,
        stand_ins=way.stand_ins,
        correct=way.correct,
        quality=way.quality,
        sidecar=sidecar,
        n_ctx=256,
    )


def fade(stage: Stage, conditions: Conditions) -> None:
    for k in _UNSTABLE:
        stage.lab.set(conditions, k)


def _alone_with_half(run: Run) -> Iterator[Row]:
    """The paper's case: two of four workers fade, and alone hold what matters least."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_tiny(folder / "deep.gguf", "F32", DEEP, name="deep-random")
        sidecar = calibrated(model, folder)
        for way in _WAYS:
            yield _timed(run, model, sidecar, way)
        for trained in run.trained:
            sidecar = calibrated(trained, folder)
            for way in _WAYS:
                if way.quality == "fast":
                    yield _judged(run, trained, sidecar, way)


def _timed(run: Run, model: Path, sidecar: Path, way: Way) -> Row:
    with Stage(scene(model, sidecar, way), run.say, limit_s=170) as stage:
        deal(stage, sidecar)
        good, bad = alternate(stage, [lambda: fade(stage, GOOD), lambda: fade(stage, _FADES)], 4, _STRETCH)
        late = (stage.engine.quality_report() or {}).get("late_share") or 0.0
    ratio = bad.mean / good.mean
    return Row(
        f"two of 4 workers fade 20% of the time (mean 20 ms) and alone hold the half of the MLP that matters least: "
        f"{way.name}",
        "beside" if way.bar is None else f"at most {way.bar:.2f}x of no fades",
        f"{ratio:.3f}x ({1e3 * bad.mean:.0f} against {1e3 * good.mean:.0f} ms a token, medians "
        f"{1e3 * statistics.median(bad.times):.0f} and {1e3 * statistics.median(good.times):.0f}); hub "
        f"{bad.share('hub'):.1%} of the group results; {late:.2%} of the MLP late over both",
        None if way.bar is None else ratio <= way.bar,
        {"way": way.name, "ratio": ratio, "good_ms": 1e3 * good.mean, "bad_ms": 1e3 * bad.mean, "late_share": late},
    )


def _judged(run_: Run, model: Path, sidecar: Path, way: Way) -> Row:
    """Perplexity while the devices fade all the time, against the exact one of the same tokens."""
    assert run_.text is not None
    with Stage(scene(model, sidecar, way), run_.say, limit_s=900) as stage:
        deal(stage, sidecar)
        tokenize = open_tokenizer(model)
        sequences = sequences_of(read_text(run_.text, 100_000), tokenize, stage.scene.n_ctx, _PREDICTIONS)
        alone = _native.Engine(open_model(model).native, stage.scene.n_ctx)
        exact = run(alone, sequences, single=False)
        fade(stage, _FADES)
        stage.engine.reset_stats()
        late = run(stage.engine, sequences, single=True)
        found = Comparison.of(exact, late, stage.engine.stats()["tolerance"])
    bar = 0.003 if way.bar is not None and model.stem.startswith("halo5M") else None
    return Row(
        f"the same, perplexity of {model.stem} over {predictions_of(sequences)} predictions: {way.name}",
        "reported" if bar is None else f"at most {bar:+.1%}",
        f"{found.change:+.2%} ({found.perplexity:.4f} against {exact.perplexity:.4f}), {found.late_share:.1%} of the "
        f"MLP late, next-token accuracy {100 * (found.accuracy - exact.accuracy):+.2f} points",
        None if bar is None else found.change <= bar,
        {"way": way.name, "model": model.stem, "change": found.change, "late_share": found.late_share},
    )


def _one_fades(run: Run) -> Iterator[Row]:
    """Everyone holds everything: tolerance must not cost time."""
    with tempfile.TemporaryDirectory() as name:
        sidecar = calibrated(run.stories, Path(name))
        fades = replace(GOOD, loss=0.2, fade_ms=20)
        with Stage(Scene(run.stories, workers=_WORKERS, sidecar=sidecar), run.say, limit_s=170) as stage:
            stage.lab.set(fades, 1)
            ways = [lambda: stage.set_quality("exact"), lambda: stage.set_quality("balanced")]
            exact, balanced = alternate(stage, ways, 8, 25)
    yield _not_slower(exact, balanced)


def _not_slower(exact: Sample, balanced: Sample) -> Row:
    ratio = balanced.mean / exact.mean
    return Row(
        "fades (mean 20 ms, 20% of the time) on one of 4 workers, everyone holds everything: balanced against exact",
        "not slower",
        f"{ratio:.3f}x ({1e3 * balanced.mean:.1f} against {1e3 * exact.mean:.1f} ms a token)",
        ratio <= 1.02,
        {"ratio": ratio},
    )


def scenarios() -> dict[str, Scenario]:
    return {"relaxed: alone with half": _alone_with_half, "relaxed: one fades": _one_fades}
