"""HaloLlama feeds its engine the right tokens, whatever was rolled back or interrupted."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import halo.llama
from halo import HaloLlama
from halo.errors import MissingExtraError, ModelError
from tests.llama.conftest import Pair
from tests.llama.oracle import Interrupted, Memory, Oracle
from tests.llama.test_contract import PROMPT, completion

GREEDY = {"temperature": 0.0, "max_tokens": 24}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("eval"), st.lists(st.integers(3, 300), min_size=1, max_size=9)),
        st.tuples(st.just("roll back"), st.integers(0, 30)),
        st.tuples(st.just("reset"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, n_batch=st.integers(1, 8), logits_all=st.booleans())
def test_the_engine_holds_the_sequence_after_every_eval(
    model_path: Path, steps: list[tuple[str, Any]], n_batch: int, logits_all: bool
) -> None:
    with Oracle(model_path) as oracle:
        n_vocab = oracle.n_vocab
    engine = Memory(n_vocab)
    with HaloLlama(model_path, engine=engine, n_batch=n_batch, logits_all=logits_all) as llama:
        sequence: list[int] = []
        for step, value in steps:
            if step == "eval":
                sequence += value
                llama.eval(value)
                assert engine.held == sequence == list(llama.eval_tokens)
                expected = np.argmax(Memory(n_vocab).forward(0, np.array(sequence, np.int32)))
                assert llama.sample(temp=0.0) == expected
            elif step == "roll back":
                llama.n_tokens = min(llama.n_tokens, value)
                del sequence[value:]
            else:
                llama.reset()
                sequence.clear()


def test_ctrl_c_in_a_forward_loses_nothing(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(n_batch=16)
    prompt = PROMPT * 4
    expected = completion(prompt, **GREEDY)(pair.ordinary)
    pair.engine.delay = 0.1
    timer = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        completion(prompt, **GREEDY)(pair.halo)
    timer.join()
    pair.engine.delay = 0.0
    assert 0 < pair.halo.n_tokens < len(pair.halo.prompt_tokens(prompt))
    assert completion(prompt, **GREEDY)(pair.halo) == expected


def test_cancel_from_another_thread_ends_a_forward(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(delay=30.0)
    threading.Timer(0.1, pair.halo.cancel).start()
    with pytest.raises(Interrupted):
        completion(**GREEDY)(pair.halo)


def test_without_logits_all_one_row_of_logits_is_kept(pair: Pair) -> None:
    completion(**GREEDY)(pair.halo)
    assert pair.halo.scores.shape == (1, pair.halo.n_vocab())
    with pytest.raises(ValueError, match="logits_all"):
        pair.halo.sample(idx=2)


def test_what_needs_llama_cpps_context_says_so(pair: Pair) -> None:
    llama = pair.halo
    asked: list[Callable[[], object]] = [
        llama.save_state,
        lambda: llama.load_state(None),
        lambda: llama.embed("a"),
        lambda: llama.create_embedding("a"),
        lambda: llama.set_cache({}),
        lambda: pickle.dumps(llama),
    ]
    for ask in asked:
        with pytest.raises(NotImplementedError, match="HaloLlama has no"):
            ask()
    llama.set_cache(None)


def test_opening_says_nothing_on_stderr(model_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Oracle(model_path) as engine:
        capfd.readouterr()
        HaloLlama(model_path, engine=engine).close()
    assert capfd.readouterr() == ("", "")


def test_closing_twice_is_closing_once_and_use_after_it_an_error(model_path: Path) -> None:
    with Oracle(model_path) as engine, HaloLlama(model_path, engine=engine) as llama:
        llama.close()
        llama.cancel()
        uses: list[Callable[[], object]] = [
            lambda: llama.tokenize(b"a"),
            lambda: llama.create_completion("a"),
            lambda: llama.eval([1]),
            llama.reset,
            llama.n_ctx,
        ]
        for use in uses:
            with pytest.raises(ValueError, match="closed"):
                use()


@pytest.mark.parametrize(
    "option", ["n_ctx", "n_batch", "n_threads", "workers", "worker_threads", "worker_pace_us", "hub_share"]
)
def test_options_out_of_range(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} is -1"):
        HaloLlama("unread.gguf", **{option: -1})


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none.gguf", "does not exist"),
        (tmp_path, "is a directory"),
        ("", "No model file was"),
    ):
        with pytest.raises(ModelError, match=why):
            HaloLlama(path)
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ModelError, match=r"llama.cpp cannot read .*text.gguf: "):
        HaloLlama(tmp_path / "text.gguf", engine=Memory(10))


def test_an_engine_of_another_vocabulary(model_path: Path) -> None:
    with pytest.raises(ModelError, match="output head"):
        HaloLlama(model_path, engine=Memory(17))


def test_private_names_that_are_gone_are_found_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not halo.llama._missing_names()
    monkeypatch.setattr(halo.llama, "_INSTANCE_NAMES", {"_ctx", "_renamed"})
    assert halo.llama._missing_names() == {"_renamed"}
    assert issubclass(MissingExtraError, ImportError)
