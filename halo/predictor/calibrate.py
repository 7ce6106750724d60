"""Calibration: two passes over a text, a fit by layer, and the sidecar.

The native passes do the work of each token; this module walks the text, keeps the checkpoint and tells how far it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from halo import _native
from halo.errors import SidecarError
from halo.files import check_writable
from halo.model import Model
from halo.predictor import checkpoint
from halo.predictor.checkpoint import Place
from halo.predictor.fit import fit_layer
from halo.predictor.sidecar import VERSION, LayerTable, Sidecar, is_sidecar, write_sidecar
from halo.predictor.sums import Distances, FitSums, Means, MeanSums, mean_pass
from halo.predictor.text import Text, Tokens, counted_tokens

STAGES = ("means", "fit", "solve")
_BATCH = 32  # tokens of one forward: what the engine computes at once
_SAVE_EVERY_S = 300.0

Progress = Callable[[str, int, int], None]
"""Called with one of STAGES, how much of it is done, and of how much."""


class Paused(Exception):
    """The calibration was asked to stop; its checkpoint is written."""


@dataclass(frozen=True)
class Summary:
    """What a calibration did."""

    sidecar: Sidecar
    resumed: bool  # from a checkpoint
    seconds: float  # of this run
    explained: list[float]  # by layer: the share of the targets' variance that the predictor explains


def calibrate(
    model: Model,
    text: Text,
    pieces: list[Tokens],
    output: Path,
    *,
    threads: int = 1,
    progress: Progress = lambda stage, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Learn the model's sidecar from these pieces of the text and write it to `output`.

    Where `stop` says so, a checkpoint is left beside the output and Paused is raised; the same call goes on from
    there. Raises SidecarError where `output` is a file that is no sidecar, OutputError where it cannot be written.
    """
    if output.exists() and not is_sidecar(output):
        raise SidecarError(f"{output} exists and is no sidecar: it is left alone. Choose another name with -o.")
    check_writable(output)
    return _Calibration(model, text, pieces, output, threads, progress, stop).run()


class _Calibration:
    def __init__(
        self,
        model: Model,
        text: Text,
        pieces: list[Tokens],
        output: Path,
        threads: int,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> None:
        self.model, self.text, self.pieces, self.output = model, text, pieces, output
        self.progress, self.stop = progress, stop
        self.begun = self.saved = time.monotonic()
        self.tokens = counted_tokens(pieces)
        self.part = output.with_name(f"{output.name}.part")
        shapes = [(len(bounds) - 1, model.spec.d) for bounds in model.grid.mlp]
        self.means = [MeanSums.zeros(*shape) for shape in shapes]
        self.fits = [FitSums.zeros(*shape) for shape in shapes]
        self.stages = [[a for layer in sums for a in layer.arrays] for sums in (self.means, self.fits)]
        self.engine = _native.Engine(model.native, max(len(p) for p in pieces), 1, threads, "f32")

    def run(self) -> Summary:
        restored = checkpoint.restore(self.part, self.key, self.stages)
        self.place = restored or Place()
        if self.place.stage == 0:
            self.walk(mean_pass(self.model, self.means), lambda: None)
            self.place = Place(stage=1)
        means = [Means.of(sums, self.tokens) for sums in self.means]
        self.fit(means)
        tables, explained = zip(*self.solve(means), strict=True)
        model, text = self.model, self.text
        sidecar = Sidecar(model.identity, model.content, model.name, text.name, text.sha256, self.tokens, list(tables))
        write_sidecar(self.output, sidecar)
        self.part.unlink(missing_ok=True)
        return Summary(sidecar, restored is not None, time.monotonic() - self.begun, list(explained))

    @property
    def key(self) -> str:
        """Names the calibration: what goes on must be what was begun."""
        sizes = [len(piece) for piece in self.pieces]
        model = self.model
        return json.dumps([VERSION, model.identity, model.content, model.grid.mlp, self.text.sha256, sizes])

    def fit(self, means: list[Means]) -> None:
        """The second pass."""
        seen = Distances(self.model, [m.outputs for m in means], self.engine.n_ctx)

        def learn() -> None:
            for sums, mean, (inputs, distances) in zip(self.fits, means, seen.take(), strict=True):
                sums.add(mean, inputs, distances)

        self.walk(seen.observer, learn)

    def walk(self, observer: _native.Observer, learn: Callable[[], None]) -> None:
        """The rest of the present stage; `learn` is called after each piece, and before a checkpoint."""
        stage, total = STAGES[self.place.stage], sum(len(piece) for piece in self.pieces)
        while self.place.piece < len(self.pieces):
            piece = self.pieces[self.place.piece]
            before = sum(len(p) for p in self.pieces[: self.place.piece])
            self.engine.truncate(0, 0)
            if self.place.offset:  # what came before was learned from, but the caches need it
                self.engine.forward(0, piece[: self.place.offset])
            self.engine.observe(observer)
            while self.place.offset < len(piece):
                self.engine.forward(0, piece[self.place.offset : self.place.offset + _BATCH])
                self.place.offset = min(self.place.offset + _BATCH, len(piece))
                self.progress(stage, before + self.place.offset, total)
                if self.due:
                    learn()
                    self.keep()
            learn()
            self.engine.observe(None)
            self.place.piece, self.place.offset = self.place.piece + 1, 0

    def solve(self, means: list[Means]) -> Iterator[tuple[LayerTable, float]]:
        layers = self.model.spec.n_layers
        for i in range(layers):
            yield fit_layer(self.model.grid.mlp[i], means[i], self.fits[i], self.tokens)
            self.progress(STAGES[2], i + 1, layers)
            if self.due:
                self.keep()

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.stop() or time.monotonic() > self.saved + _SAVE_EVERY_S

    def keep(self) -> None:
        """Write the checkpoint; raise Paused where the calibration is to stop."""
        checkpoint.save(self.part, self.key, self.place, self.stages)
        self.saved = time.monotonic()
        if self.stop():
            raise Paused
