"""Perplexity against lateness, for each level and each way to deal with what is late."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PREDICTIONS = 10_000
_LATE = (5, 10, 20, 40)  # percent of the tolerant groups
_WAYS: dict[str, tuple[str, ...]] = {
    "balanced": ("--quality", "balanced"),
    "fast": ("--quality", "fast"),
    "any group": ("--quality", "fast", "--any-group"),
    "any group, dropped": ("--quality", "fast", "--any-group", "--drop", "mean"),
    "balanced, dropped": ("--quality", "balanced", "--drop", "mean"),
}


def halo(*arguments: object) -> dict[str, Any]:
    """A command of HALO's, and the JSON that it prints."""
    command = [sys.executable, "-m", "halo.cli", *map(str, arguments), "--json"]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report


def measure(models: list[Path], text: Path, groups: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A dictionary for each point: model, way, late (percent), and what `halo perplexity` found."""
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            sidecar = Path(folder) / f"{model.stem}.halo.gguf"
            halo("calibrate", "-m", model, "-o", sidecar, "--groups", groups)
            for way, options in _WAYS.items():
                for late in _LATE:
                    where = ("-m", model, "--text", text, "--sidecar", sidecar, "--groups", groups)
                    found = halo(
                        "perplexity", *where, *options, "--late", late, "--seeds", 3, "--limit", _PREDICTIONS, "-t", 1
                    )
                    del found["passes"]
                    points.append({**found, "model": model.stem, "way": way, "late": late, "groups": groups})
                    say(f"{model.stem}, {way}, {late}% late: {100 * found['change']:+.3f}%")
    return points
