"""Where a calibration is, in a file, so that it can be stopped and go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halo.files import whole

Arrays = list[NDArray[np.generic]]


@dataclass
class Place:
    """The next token that has not been learned from."""

    stage: int = 0  # 0: means, 1: fit
    piece: int = 0
    offset: int = 0  # in the piece


def save(path: Path, key: str, place: Place, stages: list[Arrays]) -> None:
    """Write the arrays of the stages that were begun, all or nothing. `key` names the calibration."""
    head = json.dumps({"key": key, "place": [place.stage, place.piece, place.offset]})
    arrays = {f"a{i}": values for i, values in enumerate(_begun(stages, place.stage))}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, head=np.array(head), **arrays)


def restore(path: Path, key: str, stages: list[Arrays]) -> Place | None:
    """Fill the arrays from a checkpoint of this very calibration; None, and nothing changed, where there is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            if head["key"] != key:
                return None
            place = Place(*(int(n) for n in head["place"]))
            arrays = _begun(stages, place.stage)
            saved = [file[f"a{i}"] for i in range(len(arrays))]
    except Exception:  # of a damaged file numpy and zipfile raise whatever they stumble over
        return None
    if any(s.shape != a.shape or s.dtype != a.dtype for s, a in zip(saved, arrays, strict=True)):
        return None
    for target, values in zip(arrays, saved, strict=True):
        target[...] = values
    return place


def _begun(stages: list[Arrays], stage: int) -> Arrays:
    return [values for arrays in stages[: stage + 1] for values in arrays]
