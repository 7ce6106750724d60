#!/usr/bin/env python3
"""Prints how well the predictor ranks on text that it has not seen: the table of docs/benchmarks.md.

python benchmarks/predictor.py MODEL.gguf ... --text STORIES.txt [--groups 16]

The text's documents (separated by <|endoftext|>) are halved; one half is learned from, the other one measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SEPARATOR = "<|endoftext|>"


def halo(*arguments: object) -> dict[str, Any]:
    """`halo calibrate` with these arguments."""
    command = [sys.executable, "-m", "halo.cli", "calibrate", *map(str, arguments), "--json"]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibrate on one half of a text and measure on the other one.")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--groups", type=int, help="MLP groups of a layer, at most (default: the model's own grid)")
    args = parser.parse_args()
    documents = args.text.read_text().split(SEPARATOR)
    half = len(documents) // 2
    print(
        "| model | groups | learned from | tokens | seconds | predictor | static | recall | static |\n"
        + "| --- " * 9
        + "|"
    )
    with tempfile.TemporaryDirectory() as folder:
        learned, other, sidecar = (Path(folder) / name for name in ("learned.txt", "other.txt", "sidecar.gguf"))
        learned.write_text(SEPARATOR.join(documents[:half]))
        other.write_text(SEPARATOR.join(documents[half:]))
        for model in args.models:
            for name, options in (("its half", ["--text", learned]), ("the built-in text", [])):
                grid = ["--groups", args.groups] if args.groups else []
                made = halo("-m", model, "-o", sidecar, *grid, *options)
                figures = halo("-m", model, "-o", sidecar, "--evaluate", other)
                shown = " | ".join(
                    f"{figures[key]:.3f}" for key in ("predictor", "static", "predictor_recall", "static_recall")
                )
                used = f"{max(made['groups'])} | {name} | {made['tokens']} | {made['seconds']:.0f}"
                print(f"| {model.stem} | {used} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
