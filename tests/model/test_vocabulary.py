"""Vocabularies over which llama.cpp would abort the process: refused before it sees them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from halo import ModelError
from halo.model.gguf import read_gguf
from halo.model.vocabulary import check_vocabulary
from tests.conftest import TinyModel

N = 320  # tokens of the tiny models


def shorter(whole: bytes, key: bytes) -> bytes:
    """The array of numbers without its first entry."""
    at = whole.index(key) + len(key) + 8
    assert struct.unpack_from("<Q", whole, at) == (N,)
    return whole[:at] + struct.pack("<Q", N - 1) + whole[at + 12 :]


def checked(whole: bytes, folder: Path) -> frozenset[int]:
    """What the check finds in a model with these bytes."""
    path = folder / "model.gguf"
    path.write_bytes(whole)
    return check_vocabulary(read_gguf(path))


def test_a_good_one_passes(tiny_model: TinyModel) -> None:
    assert check_vocabulary(read_gguf(tiny_model("F32"))) == frozenset()


def test_empty_tokens_are_none_that_is_there_twice(tiny_model: TinyModel, tmp_path: Path) -> None:
    whole = tiny_model("F32").read_bytes()
    for byte in (b"<0x8C>", b"<0x8D>"):
        whole = whole.replace(byte, bytes(6))
    assert checked(whole, tmp_path) == {0x8C, 0x8D}


def test_bytes_without_a_token_are_found(tiny_model: TinyModel, tmp_path: Path) -> None:
    whole = tiny_model("F32").read_bytes()
    for byte in (b"<0x0A>", b"<0x41>", b"<0xE9>"):  # but A is a token of its own
        whole = whole.replace(byte, byte.lower().replace(b"x", b"y"))
    assert checked(whole, tmp_path) == {0x0A, 0xE9}


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda whole: whole.replace(b"<0x8D>", b"<0x8C>"), "the token '<0x8C>' is there twice"),
        (
            lambda whole: whole.replace(b"<0x8D>", b"<0\0x8D").replace(b"<0x8C>", b"<0\0x8C"),  # is cut there
            "the token '<0' is there twice",
        ),
        (lambda whole: shorter(whole, b"tokenizer.ggml.scores"), "320 tokens, and 319 entries in .*scores"),
        (lambda whole: shorter(whole, b"tokenizer.ggml.token_type"), "320 tokens, and 319 entries in .*token_type"),
        (
            lambda whole: whole.replace(b"ggml.tokens", b"ggml.others").replace(b"ggml.scores", b"ggml.tokens"),
            "its tokens are no strings",
        ),
    ],
)
def test_a_damaged_one_is_refused(damage, said: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"vocabulary of .*model.gguf is damaged: .*{said}"):
        checked(damage(tiny_model("F32").read_bytes()), tmp_path)


@pytest.mark.parametrize("kind", ["none", "no_vocab", "bert", "t5", "rwkv", "plamo2", 7, "x" * 100_000])
def test_another_tokenizer_is_refused_by_name(kind: object, tiny_model: TinyModel) -> None:
    file = read_gguf(tiny_model("F32"))
    file.metadata["tokenizer.ggml.model"] = kind
    with pytest.raises(ModelError, match=f"tokenizer of the kind {repr(kind)[:50]}") as refused:
        check_vocabulary(file)
    assert len(str(refused.value)) < 1000
