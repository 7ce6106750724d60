"""Model files: reading GGUF, the model's dimensions, and its grid of neuron groups."""

from __future__ import annotations

from halo.model.demo import demo_model
from halo.model.model import Grid, Model, Spec, open_model

__all__ = ["Grid", "Model", "Spec", "demo_model", "open_model"]
