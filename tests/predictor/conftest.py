"""A tiny model that calibration learns from in a moment, and tokens for it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("halo._native")

from halo.model import Model, open_model
from halo.predictor import Text
from tests.conftest import TinyModel
from tests.tiny_gguf import Shape

SHAPE = Shape(n_layers=2, ff=64)


@pytest.fixture
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("F32", SHAPE), mlp_groups=4)


@pytest.fixture
def text() -> Text:
    return Text("made-up", "00" * 32, [])


@pytest.fixture
def pieces() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(3, SHAPE.vocab, n).astype(np.int32) for n in (130, 64, 33, 2, 100)]
