"""HaloLlama over HALO's own engine: it writes sense, and Ctrl-C stops it without losing anything."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halo import HaloLlama, _native
from halo.model import open_model
from tests.conftest import TinyModel
from tests.llama.oracle import Oracle
from tests.tiny_gguf import Shape

TOKENS = list(range(10, 240))


@pytest.fixture
def slow(tiny_model: TinyModel) -> HaloLlama:
    """A model whose prompt takes a second or so."""
    path = tiny_model("F32", Shape(d=256, n_layers=8, ff=1024))
    return HaloLlama(path, engine=_native.Engine(open_model(path).native, 256))


def test_any_part_of_a_split_model_will_do(tiny_model: TinyModel) -> None:
    first = tiny_model("Q8_0", Shape(split=7, biases=True, rope_freqs=True))
    third = first.with_name(first.name.replace("-00001-", "-00003-"))
    tokens = np.array(TOKENS[:20], np.int32)
    with HaloLlama(third) as llm, Oracle(first) as oracle:
        llm.eval(tokens.tolist())
        theirs = oracle.forward(0, tokens)[-1]
        assert np.abs(llm.scores[0] - theirs).max() < 0.1 * np.abs(theirs).max()
        assert Path(llm.model_path) == first


def stop_soon(stop: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(0.1, stop)
    timer.start()
    return timer


@pytest.mark.parametrize("how", ["Ctrl-C", "cancel"])
def test_a_prompt_can_be_stopped_and_taken_up_again(slow: HaloLlama, how: str) -> None:
    slow.eval(TOKENS[:20])
    pressed = threading.Event()
    begun_later = 0

    def stop() -> None:
        pressed.set()
        slow.cancel() if how == "cancel" else os.kill(os.getpid(), signal.SIGINT)

    timer = stop_soon(stop)
    with pytest.raises((KeyboardInterrupt, _native.Interrupted)):
        for _ in range(100):  # whatever the speed of this device
            begun_later += pressed.is_set()
            slow.n_tokens = 20
            slow.eval(TOKENS[20:])
    assert begun_later <= 1  # what ran is what stopped, or what began at that very moment
    timer.join()
    slow.n_tokens = min(slow.n_tokens, 20)
    slow.eval(TOKENS[slow.n_tokens :])
    interrupted = slow.scores.copy()
    slow.reset()
    slow.eval(TOKENS)
    assert np.array_equal(interrupted, slow.scores)


def test_the_text_is_llama_cpps(model_path: Path) -> None:
    """On a short text: after more tokens rounding may choose another one."""
    engine = _native.Engine(open_model(model_path).native, 256)
    texts = []
    with Oracle(model_path) as oracle:
        for each in (oracle, engine):
            with HaloLlama(model_path, engine=each) as llama:
                answer = llama.create_completion("Once upon a time", max_tokens=16, temperature=0.0)
                texts.append(answer["choices"][0]["text"])
    assert texts[0] == texts[1] != ""
