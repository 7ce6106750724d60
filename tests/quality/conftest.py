"""The demo model in a folder of its own, with a sidecar that was learned in a moment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("halo._native")
pytest.importorskip("llama_cpp")

from halo.model import demo_model

STORY = "Once upon a time, there was a little girl named Lily. She liked to play with her red ball in the park. "
HALO = [sys.executable, "-m", "halo.cli"]


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a sidecar beside it."""
    model = Path(shutil.copy(demo_model(), tmp_path_factory.mktemp("model") / "demo.gguf"))
    subprocess.run([*HALO, "calibrate", "-m", model, "--tokens", "2000"], check=True, capture_output=True, timeout=120)
    return model


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join([STORY * 2, STORY.replace("girl named Lily", "boy named Tom")]))
    return path
