"""What the front end asks of an engine; the native engine and the tests' oracle both answer to it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """A language model with caches, one per slot; positions of a slot are counted from 0."""

    @property
    def n_ctx(self) -> int:
        """Positions a slot can hold."""

    @property
    def n_vocab(self) -> int:
        """Length of a row of logits."""

    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = False) -> NDArray[np.float32]:
        """Append `tokens` to the slot; returns logits, shape (1, n_vocab) or (len(tokens), n_vocab)."""

    def truncate(self, slot: int, n: int) -> None:
        """Keep the first `n` positions of the slot and forget the rest."""

    def n_past(self, slot: int) -> int:
        """Positions that the slot holds now. Only `truncate` makes them fewer: what goes wrong loses none."""

    def cancel(self) -> None:
        """Make a running `forward` raise; callable from any thread."""
