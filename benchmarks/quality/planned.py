"""Planned lateness: what it saves where the predicted-bottom groups are always one sync late."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import Sample, alternate
from benchmarks.trouble.relaxed import DEEP, calibrated
from benchmarks.trouble.stage import Scene, Stage
from tests.tiny_gguf import write_tiny

_DELAYS_MS = (2, 5)
_QUALITIES = ("exact", "late:0.25", "late:0.5", "late:0.75")
_PACES_US = (200, 500)  # a group: with 32 of MLP and 4 of attention, 7.2 and 18 ms a layer for one device


def measure(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A dictionary for each point: delay_ms (one way), pace_us (of a group), quality, ms a token, hub_share."""
    points = []
    with tempfile.TemporaryDirectory() as name:
        model = write_tiny(Path(name) / "deep.gguf", "F32", DEEP, name="deep-random")
        sidecar = calibrated(model, Path(name))
        for delay in _DELAYS_MS:
            for pace in _PACES_US:
                for quality, sample in _compared(model, sidecar, delay, pace):
                    ms = 1e3 * statistics.median(sample.times)
                    share = round(sample.share("hub"), 3)
                    point = {"delay_ms": delay, "pace_us": pace, "quality": quality, "ms": round(ms, 1)}
                    points.append({**point, "hub_share": share})
                    say(f"{delay} ms one way, {pace} us a group, {quality}: {ms:.0f} ms a token, hub {share:.0%}")
    return points


def _compared(model: Path, sidecar: Path, delay_ms: int, pace_us: int) -> Iterator[tuple[str, Sample]]:
    scene = Scene(
        model,
        workers=4,
        conditions=Conditions(delay_us=1000 * delay_ms),
        pace_us=0,
        pace_group_us=pace_us,
        hub_pace_group_us=pace_us,
        plan="auto",
        hub_share=None,
        sidecar=sidecar,
        n_ctx=256,
    )
    with Stage(scene, lambda line: None, limit_s=170) as stage:
        ways = [partial(stage.set_quality, quality) for quality in _QUALITIES]
        alternate(stage, ways[:1], 1, 12)  # speeds are learned
        yield from zip(_QUALITIES, alternate(stage, ways, 2, 10), strict=True)
