"""The semantic-aware predictor: what `halo calibrate` learns about a model's MLP groups, and how well it ranks them."""

from __future__ import annotations

from halo.predictor.calibrate import Paused, Summary, calibrate
from halo.predictor.evaluate import Evaluation, evaluate
from halo.predictor.sidecar import LayerTable, Sidecar, groups_of, read_sidecar, sidecar_path, write_sidecar
from halo.predictor.text import Text, builtin_text, read_text

__all__ = [
    "Evaluation",
    "LayerTable",
    "Paused",
    "Sidecar",
    "Summary",
    "Text",
    "builtin_text",
    "calibrate",
    "evaluate",
    "groups_of",
    "read_sidecar",
    "read_text",
    "sidecar_path",
    "write_sidecar",
]
