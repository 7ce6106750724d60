"""The pictures of docs/quality.md, from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

_STYLES = {
    "balanced": ("tab:green", "-"),
    "fast": ("tab:blue", "-"),
    "any group": ("tab:orange", "-"),
    "balanced, dropped": ("tab:green", ":"),
    "any group, dropped": ("tab:orange", ":"),
    "strict TCP, exact": ("tab:red", "-"),
    "repair, exact": ("tab:orange", "-"),
    "stand-ins, exact": ("tab:green", "-"),
    "relaxed, fast": ("tab:blue", "-"),
    "dropping": ("tab:gray", ":"),
}


def draw(data: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the pictures of what `data` has; returns their paths."""
    plt.rcParams.update({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "halo", "axes.grid": True})
    plt.rcParams.update({"grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
    made = []
    if "perplexity" in data:
        made.append(_perplexity(data["perplexity"], folder / "quality-perplexity.svg"))
    if "times" in data:
        made.append(_times(data["times"], folder / "quality-times.svg"))
    return made


def _perplexity(points: list[dict[str, Any]], path: Path) -> Path:
    models = list(dict.fromkeys(p["model"] for p in points))
    figure, axes = plt.subplots(1, len(models), figsize=(5 * len(models), 3.8), squeeze=False)
    for axis, model in zip(axes[0], models, strict=True):
        for way in dict.fromkeys(p["way"] for p in points):
            mine = [p for p in points if p["model"] == model and p["way"] == way]
            colour, line = _STYLES[way]
            axis.errorbar(
                [p["late"] for p in mine],
                [100 * p["change"] for p in mine],
                [100 * p["change_spread"] for p in mine],
                color=colour,
                linestyle=line,
                marker=".",
                capsize=2,
                label=way,
            )
        axis.set_title(model)
        axis.set_xlabel("of the groups that may be late, late (%)")
        axis.set_ylabel("change of the perplexity (%)")
        axis.set_yscale("symlog", linthresh=0.1)
    return _save(figure, path)


def _times(points: list[dict[str, Any]], path: Path) -> Path:
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
    labels = {"loss": "loss of frames on two of 4 workers (%)", "fades": "time in fades of 20 ms, two of 4 workers (%)"}
    for axis, (kind, label) in zip(axes, labels.items(), strict=True):
        for way in dict.fromkeys(p["way"] for p in points):
            mine = [p for p in points if p["way"] == way and (p["kind"] == kind or p["share"] == 0)]
            colour, line = _STYLES[way]
            shares = [100 * p["share"] for p in mine]
            axis.plot(shares, [p["ms"] for p in mine], color=colour, linestyle=line, marker=".", label=way)
        axis.set_xlabel(label)
        axis.set_yscale("log")
        ticks = [300, 500, 1000, 2000, 4000]
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
    axes[0].set_ylabel("ms a token")
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    """With one legend below all."""
    lines, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="lower center", ncols=len(names), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
