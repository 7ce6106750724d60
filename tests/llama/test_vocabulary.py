"""Odd vocabularies and chat templates: what llama.cpp can do with them works, the rest is one paragraph."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import halo
from halo import HaloLlama, ModelError
from halo.errors import ContextError
from halo.llama import open_vocabulary
from halo.predictor import Text
from halo.predictor.text import open_tokenizer, pieces_of
from tests.conftest import TinyModel
from tests.tiny_gguf import Shape


def rewritten(model: Path, folder: Path, *changes: tuple[bytes, bytes]) -> Path:
    """A copy in which these bytes are others, of the same length."""
    whole = model.read_bytes()
    for old, new in changes:
        assert old in whole and len(old) == len(new)
        whole = whole.replace(old, new)
    path = folder / "model.gguf"
    path.write_bytes(whole)
    return path


def test_a_text_that_needs_a_missing_byte_is_refused_and_others_work(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("F32")
    path = rewritten(model, tmp_path, (b"<0x0A>", b"<0y0A>"), (b"<0xC3>", b"<0yC3>"), (b"<0x41>", b"<0y41>"))
    whole = open_vocabulary(model)
    with HaloLlama(path) as llama:
        for text in ("", "ABC abc </s>", "zz\N{SNOWMAN}", " "):
            assert llama.prompt_tokens(text) == whole.tokenize(text.encode(), True, True)
        assert llama.create_completion("ABC", max_tokens=2)["usage"]["completion_tokens"] > 0
        for text, said in (("a\nb", r"no token for '\\n'.*<0x0A>"), ("caf\u00e9", "<0xC3>")):
            with pytest.raises(ModelError, match=f"vocabulary of .*model.gguf .*{said}.*Leave that character out"):
                llama.create_completion(text)
    with pytest.raises(ModelError, match="<0x0A>"):
        open_vocabulary(path).tokenize(b"a\nb", add_bos=False)


def test_a_special_token_needs_no_token_for_each_of_its_characters(tiny_model: TinyModel, tmp_path: Path) -> None:
    changes = ((b"<0x7C>", b"<0y7C>"), (b"</s>", b"<||>"))
    llama = open_vocabulary(rewritten(tiny_model("F32"), tmp_path, *changes))
    assert llama.tokenize(b"A<||>", add_bos=True, special=True)[-1] == 2
    with pytest.raises(ModelError, match="<0x7C>"):
        llama.tokenize(b"A<||>", add_bos=True, special=False)


def test_a_vocabulary_with_empty_tokens_works(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = rewritten(tiny_model("F32"), tmp_path, (b"<0x8D>", bytes(6)), (b"<0x8C>", bytes(6)))
    assert isinstance(halo.generate("ABC", model=path, max_tokens=4), str)


def test_without_a_begin_of_sequence_an_empty_prompt_is_refused(tiny_model: TinyModel) -> None:
    path = tiny_model("F32", Shape(metadata=(("tokenizer.ggml.add_bos_token", False),)))
    with pytest.raises(ContextError, match=r"prompt is empty, and this model has no begin of sequence.*give a prompt"):
        halo.generate("", model=path)
    assert isinstance(halo.generate("A", model=path, max_tokens=2), str)
    with HaloLlama(path) as llama:
        with pytest.raises(ContextError, match="nothing to go on from"):
            llama.create_completion("")
        assert llama.create_completion("A", max_tokens=2)["usage"]["completion_tokens"] > 0
        for ask in (llama.sample, lambda: llama.sample(idx=0), lambda: next(llama.generate([]))):
            llama.reset()
            with pytest.raises(ContextError, match="nothing to go on from"):
                ask()


@pytest.mark.parametrize("key", ["tokenizer.chat_template", "tokenizer.chat_template.tool_use"])
@pytest.mark.parametrize(
    "template",
    ["{{ messages[0 }}", "{% nonsense %}", "{{ 'a'.b\n\x1b[31m", "{% for a in b %}" * 30 + "{% endfor %}" * 30],
)
def test_a_chat_template_that_jinja_rejects_is_told_and_keeps_nobody_from_plain_text(
    template: str, key: str, tiny_model: TinyModel
) -> None:
    path = tiny_model("F32", Shape(metadata=((key, template),)))
    said: list[str] = []
    messages = [{"role": "user", "content": "A"}]
    with HaloLlama(path, log=said.append) as llama:
        assert llama.create_completion("A", max_tokens=2)["usage"]["completion_tokens"] > 0
        if key == "tokenizer.chat_template":
            with pytest.raises(ValueError, match=r"chat template of the model cannot be used .*: open it with a "):
                llama.create_chat_completion(messages)
        else:
            assert llama.create_chat_completion(messages, max_tokens=2)["usage"]["completion_tokens"] > 0
    (line,) = said
    assert line.startswith("the model's chat template cannot be used (") and line.isprintable()
    assert open_vocabulary(path).tokenize(b"A", add_bos=False)
    with HaloLlama(path, chat_format="llama-2", log=said.append) as llama:
        assert llama.create_chat_completion(messages, max_tokens=2)["usage"]["completion_tokens"] > 0


def test_a_good_chat_template_is_used(tiny_model: TinyModel) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    path = tiny_model("F32", Shape(metadata=(("tokenizer.chat_template", template),)))
    said: list[str] = []
    with HaloLlama(path, log=said.append) as llama:
        assert llama.metadata["tokenizer.chat_template"] == template
        usage = llama.create_chat_completion([{"role": "user", "content": "ABC"}], max_tokens=1)["usage"]
        assert usage["prompt_tokens"] == 4  # the template would give the begin of sequence
    assert not said


BPE = (("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.merges", ("a b",)))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (
            (*BPE, ("tokenizer.ggml.pre", "next\x1b[31m")),
            r"unknown pre-tokenizer type: 'next\?\[31m'\. The model is most likely newer than llama-cpp-p.* update",
        ),
        (
            (("tokenizer.ggml.bos_token_id", "one"),),
            r"key tokenizer\.ggml\.bos_token_id has wrong type str but expected type u32\. .* needs a tokenizer",
        ),
        ((("tokenizer.ggml.model", "gpt2"),), r"cannot find tokenizer merges in model file\. .* needs a tokenizer"),
        (
            (("general.name", 5),),
            r"key general\.name has wrong type u32 but expected type str\. The file is damaged, or a faulty program",
        ),
    ],
)
def test_llama_cpps_own_reason_is_told(metadata: tuple[tuple[str, Any], ...], said: str, tiny_model: TinyModel) -> None:
    path = tiny_model("F32", Shape(metadata=metadata))
    for open_it in (HaloLlama, open_vocabulary):
        with pytest.raises(ModelError, match=rf"^llama\.cpp cannot read .*\.gguf: {said}") as refused:
            open_it(path)
        assert str(refused.value).isprintable()


def with_a_key_that_is_empty(whole: bytes) -> bytes:
    key, value = b"general.name", b"tiny-random"
    was = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    assert was in whole
    return whole.replace(was, struct.pack("<QIQ", 0, 8, len(key + value)) + key + value)


def with_tensors_in_another_order(whole: bytes) -> bytes:
    """Two norms: each has the other's offset."""
    ends = [whole.index(name) + len(name) + 4 + 8 + 4 for name in (b"blk.0.attn_norm.weight", b"blk.0.ffn_norm.weight")]
    (one, other), changed = [whole[end : end + 8] for end in ends], bytearray(whole)
    changed[ends[0] : ends[0] + 8], changed[ends[1] : ends[1] + 8] = other, one
    return bytes(changed)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (with_a_key_that_is_empty, r"key \d+ is empty"),
        (with_tensors_in_another_order, r"tensor 'blk\.0\.attn_norm\.weight' has offset \d+, expected \d+"),
    ],
)
def test_a_file_that_llama_cpp_takes_for_damaged_is_called_so(
    damage: Callable[[bytes], bytes], said: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(damage(tiny_model("F32").read_bytes()))
    with pytest.raises(ModelError, match=rf"model\.gguf: {said}\. The file is damaged, .* convert the model again"):
        HaloLlama(path)


def test_a_bpe_vocabulary_that_does_not_say_how_text_is_split_is_told(tiny_model: TinyModel, tmp_path: Path) -> None:
    """llama.cpp warns of it, and of no SentencePiece vocabulary, and of none that says `default`."""
    renamed = (b"tokenizer.ggml.pre", b"tokenizer.ggml.was")
    said: list[str] = []
    named = tiny_model("F32", Shape(metadata=BPE))
    for path in (named, rewritten(tiny_model("F32"), tmp_path, renamed)):
        with HaloLlama(path, log=said.append):
            assert not said
    with HaloLlama(rewritten(named, tmp_path, renamed), log=said.append) as llama:
        assert llama.prompt_tokens("ABC")
    (line,) = said
    assert "(tokenizer.ggml.pre is missing;" in line and line.endswith("or convert it again")


def test_a_file_name_that_is_not_utf8_is_named_as_what_is_wrong(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.gguf")
    shutil.copy(tiny_model("F32"), path)
    with pytest.raises(ModelError, match=r"path .*caf\?.gguf is not UTF-8.*rename the file") as refused:
        HaloLlama(path)
    str(refused.value).encode()


@pytest.mark.parametrize("kind", ["spm", "bpe"])
def test_no_end_of_sequence_is_put_behind_a_text_whatever_the_model_says(kind: str, tiny_model: TinyModel) -> None:
    said = (("tokenizer.ggml.add_bos_token", True), ("tokenizer.ggml.add_eos_token", True))
    others = (*BPE, ("tokenizer.ggml.pre", "default")) if kind == "bpe" else ()
    path = tiny_model("F32", Shape(metadata=(*others, *said)))
    with HaloLlama(path) as llama:
        tokens = llama.prompt_tokens("ABC")
        assert tokens[0] == 1 and 2 not in tokens
        assert tokens[1:] == llama.tokenize(b"ABC", add_bos=False, special=True)
        assert llama.create_completion("ABC", max_tokens=1)["usage"]["prompt_tokens"] == len(tokens)
    text = Text("made-up", "", ["ABC " * 300])
    tokenize = open_tokenizer(path)
    pieces = pieces_of(text, tokenize, 128, 10_000)
    bare = tokenize(text.documents[0], False)
    assert [token for piece in pieces for token in piece[1:]] == bare
    assert all(piece[0] == 1 for piece in pieces)
