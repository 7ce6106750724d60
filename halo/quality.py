"""Quality levels: how much of the MLP may be late, in the words of a user, and what a model's sidecar allows.

docs/predictor.md says what lateness means; `native/engine/relaxed.cpp` does it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from halo.errors import SidecarError

if TYPE_CHECKING:
    from halo.cell.native import Tables
    from halo.model import Model
    from halo.predictor import Sidecar

LEVELS = {"exact": 0.0, "balanced": 0.25, "fast": 0.5}
"""The share of each layer's MLP groups that may be late, by level."""
DEFAULT = "balanced"
"""Where there is a sidecar; without one: exact."""
_PLANNED = "late:"
_NORMS_AFTER = ("post_ffw_norm", "ffn_post_norm", "post_attention_norm", "attn_post_norm")


class Relaxed(Protocol):
    """An engine, as far as its quality goes."""

    def set_tolerance(self, tables: Tables | None) -> None: ...
    def set_quality(self, share: float, planned: bool = False) -> None: ...


Wish = str | float | None
"""What a user may ask for: a level, a share from 0 to 1, or `late:` and a share; None: the default."""


@dataclass(frozen=True)
class Quality:
    """`share` of the groups may be late; `planned`: they always are."""

    level: str
    share: float
    planned: bool = False


EXACT = Quality("exact", 0.0)


def parse_quality(wish: str | float) -> Quality:
    """Raises ValueError for what is none of the levels and no share."""
    if isinstance(wish, str) and wish in LEVELS:
        return Quality(wish, LEVELS[wish])
    text = str(wish)
    planned = text.startswith(_PLANNED)
    try:
        share = float(text.removeprefix(_PLANNED))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(
            f"The quality is {wish!r}; it must be one of {', '.join(LEVELS)}, a number from 0 to 1 (the share of each "
            f"layer's MLP groups that may be late), or {_PLANNED}NUMBER (that always are)."
        )
    return Quality(text, share, planned) if share else EXACT


def why_not_relaxed(model: Model) -> str | None:
    """Why nothing may be late in this model, whatever its sidecar says; None: it may.

    A correction is added to the residual stream a sync later. Where a norm lies between a block and the residual
    stream, that would not be what the block had given.
    """
    for name in model.file.tensors:
        if any(norm in name for norm in _NORMS_AFTER):
            return f"the model normalises what a block gives ({name}), so that nothing can be corrected later"
    return None


def tables_of(sidecar: Sidecar) -> Tables:
    """A sidecar's tables as the native engine takes them."""
    return [(layer.mean, layer.predictor, layer.bias, layer.significance) for layer in sidecar.layers]


def _rounded(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


def _is_there(path: Path) -> bool:
    """What cannot be looked at is, to be told why; what has too long a name is not: a model may have the longest."""
    try:
        return path.exists()
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG


class QualityControl:
    """Sets the quality of one engine, as far as the model's sidecar allows it.

    A sidecar that is named is read at once, and SidecarError where it cannot be used; of one that is found beside the
    model that is only told.
    """

    def __init__(
        self, model: Model, sidecar: Path | None, engine: Relaxed, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self.used = EXACT
        self.reason: str | None = None
        """Why it is not what was asked for, or not the default."""
        self._model = model
        self._named = sidecar
        self._engine = engine
        self._log = log
        self._tried = self._loaded = False
        self._refused: str | None = None
        if sidecar is not None:
            self._load()

    @property
    def sidecar(self) -> Path:
        """Where it is looked for."""
        from halo.predictor import sidecar_path

        return self._named or sidecar_path(self._model.path)

    def set(self, wish: Wish) -> Quality:
        """From the next token on; returns what is used: `exact` where nothing else can be. Raises ValueError."""
        wanted = parse_quality(DEFAULT if wish is None else wish)
        self.reason = None
        if wanted.share and not self._load():
            self.reason = self._refused
            if self.reason:
                self._log(f"quality: exact instead of {wanted.level}: {self.reason}")
            elif wish is not None:
                self.reason = f"there is no sidecar {self.sidecar} (halo calibrate makes one)"
                self._log(f"quality: exact instead of {wanted.level}: {self.reason}")
            wanted = EXACT
        if self._loaded:
            self._engine.set_quality(wanted.share, wanted.planned)
        self.used = wanted
        return wanted

    def report(self, stats: Mapping[str, Any]) -> dict[str, Any]:
        """What was used, and how much was late: shares of the MLP's group results of generated tokens.

        `forced_share` is tolerant only because nobody reliable holds it; `late_weight` estimates the quality: which
        part of what the MLP varies by was late, by the sidecar's static significance.
        """
        counted = stats.get("tolerance", {})
        groups = counted.get("mlp_groups", 0)

        def share(key: str) -> float | None:
            return _rounded(counted.get(key, 0), groups)

        return {
            "level": self.used.level,
            "share": self.used.share,
            "planned": self.used.planned,
            "sidecar": str(self.sidecar) if self._loaded else None,
            "reason": self.reason,
            "tolerant_share": share("tolerant_groups"),
            "late_share": share("late_groups"),
            "forced_share": share("forced_groups"),
            "late_weight": _rounded(counted.get("late_weight", 0), counted.get("mlp_syncs", 0)),
        }

    def _load(self) -> bool:
        """Read the sidecar, once it is there."""
        if self._tried:
            return self._loaded
        if self._named is None and not _is_there(self.sidecar):
            return False
        self._tried = True
        from halo.predictor import read_sidecar

        self._refused = why_not_relaxed(self._model)
        if self._refused is None:
            try:
                self._engine.set_tolerance(tables_of(read_sidecar(self.sidecar, self._model)))
                self._loaded = True
            except (SidecarError, ValueError, OSError) as error:
                if self._named is not None:
                    raise SidecarError(str(error)) from None
                self._refused = str(error)
        return self._loaded
