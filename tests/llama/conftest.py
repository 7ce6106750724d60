"""An ordinary `Llama` and a `HaloLlama` over the same forward pass, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from llama_cpp import Llama

from halo import HaloLlama
from tests.conftest import ROOT, SHARED_MODELS
from tests.llama.oracle import Oracle

N_CTX = 256


class Pair(NamedTuple):
    """The same model twice: `ordinary` is what `halo` must agree with; `engine` is behind `halo`."""

    ordinary: Llama
    halo: HaloLlama
    engine: Oracle

    def both(self, ask: Callable[[Any], Any]) -> tuple[Any, Any]:
        """What each of the two answers."""
        return ask(self.ordinary), ask(self.halo)


@pytest.fixture(scope="session")
def model_path() -> Path:
    for path in (ROOT / "models" / "halo-demo-q8_0.gguf", SHARED_MODELS / "stories260K-f32.gguf"):
        if path.is_file():
            return path
    pytest.skip("needs models/halo-demo-q8_0.gguf")


@pytest.fixture
def make_pair(model_path: Path, plain_llama_cpp: None) -> Iterator[Callable[..., Pair]]:
    """Opens pairs with options that `Llama` and `HaloLlama` share."""
    with ExitStack() as opened:

        def make(*, n_batch: int = 512, delay: float = 0.0, **options: Any) -> Pair:
            engine = opened.enter_context(Oracle(model_path, N_CTX, n_batch=n_batch, delay=delay))
            halo = opened.enter_context(HaloLlama(model_path, engine=engine, n_batch=n_batch, **options))
            ordinary = Llama(
                str(model_path), n_ctx=N_CTX, n_batch=n_batch, n_ubatch=n_batch, n_threads=1,
                n_threads_batch=1, verbose=False, **options,
            )  # fmt: skip
            opened.callback(ordinary.close)
            return Pair(ordinary, halo, engine)

        yield make


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()
