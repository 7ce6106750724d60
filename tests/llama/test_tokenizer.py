"""No text ends the process: not one that llama.cpp's regular expressions recurse over, nor one that is far too long."""

from __future__ import annotations

import threading

import pytest

import halo
from halo import HaloLlama
from halo.errors import ContextError
from halo.llama import open_vocabulary
from halo.tokenizer import _with_stack
from tests.conftest import TinyModel
from tests.tiny_gguf import Shape

BPE = Shape(metadata=(("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.merges", ("a b",))))


@pytest.mark.parametrize("text", ["A" * 100_000, " " * 100_000 + "A", "-" * 50_000 + "\n" * 50_000])
def test_a_text_without_a_blank_is_cut_into_tokens(text: str, tiny_model: TinyModel) -> None:
    """Each is far beyond what 8 MiB of stack hold."""
    vocabulary = open_vocabulary(tiny_model("F32", BPE))
    found = list(vocabulary.tokenize(text.encode(), add_bos=False))
    assert found.count(vocabulary.tokenize(b"A", add_bos=False)[0]) == text.count("A")


def test_what_no_text_has_on_end_is_refused(tiny_model: TinyModel) -> None:
    vocabulary = open_vocabulary(tiny_model("F32", BPE))
    with pytest.raises(ValueError, match=r"600001 bytes on end without a blank.*line ends into it"):
        vocabulary.tokenize(b"A " + b"A" * 600_000)
    assert vocabulary.tokenize(b"A " * 300_000, add_bos=False)


def test_a_thread_with_a_stack_of_its_own_leaves_the_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise LookupError("this")

    before = threading.stack_size()
    assert _with_stack(64 << 20, lambda: threading.current_thread().name) == "halo-tokenizer_0"
    with pytest.raises(LookupError, match="this"):
        _with_stack(64 << 20, fail)
    with pytest.raises(MemoryError, match="1048576 MiB of stack"):
        _with_stack(1 << 40, fail)
    assert threading.stack_size() == before


def test_a_prompt_far_beyond_the_window_is_refused_before_it_is_cut(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("F32")
    longest = max(len(open_vocabulary(model).detokenize([i])) for i in range(3, 320))
    with HaloLlama(model) as llama:
        assert llama.least_tokens(10**6) <= 10**6 // longest
    monkeypatch.setattr(HaloLlama, "prompt_tokens", lambda *_: pytest.fail("it was cut"))
    with pytest.raises(ContextError, match=r"has at least \d+ tokens, and the context window holds 256.*shorten"):
        halo.generate("A" * 100_000, model=model)
