"""Engines for tests of the front end: llama.cpp's own forward pass, and one that remembers tokens."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Self

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from halo.silence import silence


class Interrupted(RuntimeError):
    """What `forward` raises when it is cancelled."""


def plain_params() -> Any:
    """To open a model with llama.cpp's plain kernels, the same on every machine.

    With AMX, where a processor has it, other things are rounded, and it crashes where a process may not use its tiles.
    """
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False
    return params


class Oracle:
    """llama.cpp's forward pass behind the engine protocol: what HaloLlama must agree with exactly.

    `delay` seconds are slept in each forward, cut short by `cancel` or a signal. `lose` takes positions away,
    as a device that restarts would.
    """

    def __init__(
        self,
        path: Path,
        n_ctx: int = 256,
        *,
        n_batch: int = 512,
        n_threads: int = 1,
        flash_attn: bool = False,
        delay: float = 0.0,
    ) -> None:
        self.delay = delay
        self.forwards = 0
        self.interrupted = 0
        """Forwards that were cut short."""
        self._cancelled = threading.Event()
        self._n_past = 0
        with silence():
            self._open(path, n_ctx, n_batch, n_threads, flash_attn)
        self._batch = llama_cpp.llama_batch_init(n_batch, 0, 1)
        self.n_ctx: int = llama_cpp.llama_n_ctx(self._ctx)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def _open(self, path: Path, n_ctx: int, n_batch: int, n_threads: int, flash_attn: bool) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), plain_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.n_threads = params.n_threads_batch = n_threads
        kind = "ENABLED" if flash_attn else "DISABLED"
        params.flash_attn_type = getattr(llama_cpp, f"LLAMA_FLASH_ATTN_TYPE_{kind}")
        self._ctx = llama_cpp.llama_init_from_model(self._model, params)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with silence():
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._ctx)
            llama_cpp.llama_model_free(self._model)

    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = False) -> NDArray[np.float32]:
        self.forwards += 1
        self._cancelled.clear()
        if self.delay and self._cancelled.wait(self.delay):
            self.interrupted += 1
            raise Interrupted("cancelled")
        batch, n = self._batch, len(tokens)
        batch.n_tokens = n
        for i, token in enumerate(tokens):
            batch.token[i] = int(token)
            batch.pos[i] = self._n_past + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = slot
            batch.logits[i] = all_logits or i == n - 1
        if llama_cpp.llama_decode(self._ctx, batch) != 0:
            raise RuntimeError(f"llama_decode failed at position {self._n_past}")
        self._n_past += n
        rows = n if all_logits else 1
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._ctx), (rows * self.n_vocab,))
        return logits.reshape(rows, self.n_vocab).copy()

    def truncate(self, slot: int, n: int) -> None:
        self._n_past = min(self._n_past, n)
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._ctx), slot, self._n_past, -1)

    def n_past(self, slot: int) -> int:
        return self._n_past

    def cancel(self) -> None:
        self._cancelled.set()


class Memory:
    """An engine whose logits depend on the very tokens it holds: a mistake in what it was fed shows at once.

    `script` makes the first tokens after the prompt the most probable ones, so that a test decides the text.
    """

    def __init__(self, n_vocab: int, n_ctx: int = 256, script: list[int] | None = None) -> None:
        self.n_ctx, self.n_vocab = n_ctx, n_vocab
        self.held: list[int] = []
        self._script = script or []
        self._prompt: int | None = None

    def forward(self, slot: int, tokens: NDArray[np.int32], all_logits: bool = False) -> NDArray[np.float32]:
        rows = []
        for token in tokens:
            assert len(self.held) < self.n_ctx
            self.held.append(int(token))
            rows.append(np.random.default_rng(self.held).random(self.n_vocab, dtype=np.float32))
            rows[-1][:3] = -1.0  # never the end of the text
        self._prompt = self._prompt or len(self.held)
        step = len(self.held) - self._prompt
        if 0 <= step < len(self._script):
            rows[-1][self._script[step]] = 100.0
        return np.stack(rows if all_logits else rows[-1:])

    def truncate(self, slot: int, n: int) -> None:
        del self.held[n:]

    def n_past(self, slot: int) -> int:
        return len(self.held)

    def cancel(self) -> None:
        pass
