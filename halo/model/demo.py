"""Finds the small demo model that comes with HALO."""

from __future__ import annotations

from pathlib import Path

from halo.errors import ModelError

NAME = "halo-demo-q8_0.gguf"


def demo_model() -> Path:
    """The demo model's path: inside the installed package, or models/ of a source checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "demo", package.parent / "models"):
        if (folder / NAME).is_file():
            return folder / NAME
    raise ModelError(
        f"The demo model {NAME} is not installed. Give a GGUF file with -m, or install HALO again from its source, "
        "where models/README.md tells how the demo model is made."
    )
