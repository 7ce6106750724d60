"""Planned lateness: what it saves where the predicted-bottom groups are always one sync late."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import alternate
from benchmarks.trouble.relaxed import DEEP, calibrated
from benchmarks.trouble.stage import Scene, Stage
from tests.tiny_gguf import write_tiny

_DELAYS_MS = (2, 5)
_QUALITIES = ("exact", "late:0.25", "late:0.5", "late:0.75")
_PACE_GROUP_US = 200  # 32 groups: 6.4 ms of MLP a layer for one device


def measure(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A dictionary for each point: plan, delay_ms (one way), quality, ms a token."""
    points = []
    with tempfile.TemporaryDirectory() as name:
        model = write_tiny(Path(name) / "deep.gguf", "F32", DEEP, name="deep-random")
        sidecar = calibrated(model, Path(name))
        for delay in _DELAYS_MS:
            scene = Scene(
                model,
                workers=4,
                conditions=Conditions(delay_us=1000 * delay),
                pace_us=0,
                pace_group_us=_PACE_GROUP_US,
                hub_pace_group_us=_PACE_GROUP_US,
                plan="auto",
                hub_share=None,
                sidecar=sidecar,
                n_ctx=256,
            )
            with Stage(scene, lambda line: None, limit_s=170) as stage:
                ways = [partial(stage.set_quality, quality) for quality in _QUALITIES]
                alternate(stage, ways[:1], 1, 12)  # speeds are learned
                for quality, sample in zip(_QUALITIES, alternate(stage, ways, 2, 10), strict=True):
                    ms = 1e3 * statistics.median(sample.times)
                    share = round(sample.share("hub"), 3)
                    points.append({"delay_ms": delay, "quality": quality, "ms": round(ms, 1), "hub_share": share})
                    say(f"{delay} ms one way, {quality}: {ms:.0f} ms a token, hub {share:.0%} of the groups")
    return points
