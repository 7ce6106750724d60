"""Time per token against loss and fades of two of four workers, for each way to deal with what is late.

The two workers alone hold the half of the MLP that matters least, as in `benchmarks.trouble`'s paper's case.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import generate
from benchmarks.trouble.relaxed import DEEP, Way, calibrated, deal, fade, scene
from benchmarks.trouble.stage import GOOD, Stage
from tests.tiny_gguf import write_tiny

_TCP = "strict TCP, exact"
_WAYS = (
    Way(_TCP, "exact", stand_ins=False),
    Way("repair, exact", "exact", stand_ins=False),
    Way("stand-ins, exact", "exact"),
    Way("relaxed, fast", "fast"),
    Way("dropping", "fast", correct=False),
)
_LOSS = (0.0, 0.01, 0.02, 0.05, 0.1)
_FADES = (0.05, 0.1, 0.2, 0.3)
_TOKENS, _TOKENS_TCP = 12, 4


def measure(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A dictionary for each point: way, kind (loss or fades), share, ms a token."""
    points = []
    with tempfile.TemporaryDirectory() as name:
        model = write_tiny(Path(name) / "deep.gguf", "F32", DEEP, name="deep-random")
        sidecar = calibrated(model, Path(name))
        for way in _WAYS:
            wanted = scene(model, sidecar, way)
            if way.name == _TCP:
                wanted = replace(wanted, transport="mqtt", lanes=1)
            with Stage(wanted, lambda line: None, limit_s=600) as stage:
                deal(stage, sidecar)
                for kind, share in [*(("loss", s) for s in _LOSS), *(("fades", s) for s in _FADES)]:
                    fade(stage, _conditions(kind, share))
                    generate(stage, 2)
                    run = generate(stage, _TOKENS_TCP if way.name == _TCP else _TOKENS)
                    ms = 1e3 * sum(run.times) / len(run.times)
                    points.append({"way": way.name, "kind": kind, "share": share, "ms": round(ms, 1)})
                    say(f"{way.name}, {kind} {share:.0%}: {ms:.0f} ms a token")
    return points


def _conditions(kind: str, share: float) -> Conditions:
    if share == 0:
        return GOOD
    return replace(GOOD, loss=share, fade_ms=20 if kind == "fades" else 0)
