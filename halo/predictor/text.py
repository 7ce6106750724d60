"""Calibration text: read, checked, and cut into pieces of tokens that fit the context."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halo.errors import TextError

BUILTIN = Path(__file__).with_name("calibration.txt")
SEPARATOR = "<|endoftext|>"
LEAST_TOKENS = 512
PIECE = 512  # tokens that are read together, at most

_BYTES_A_TOKEN = 16  # more than any tokenizer needs on average

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Text:
    """Documents, and what to call them."""

    name: str
    sha256: str
    documents: list[str]


def builtin_text() -> Text:
    """The text that comes with HALO: varied English prose and dialogue."""
    return _text("built-in", BUILTIN.read_bytes(), BUILTIN)


def read_text(path: Path, tokens: int) -> Text:
    """The text of a file, no more of it than `tokens` tokens can need; `<|endoftext|>` separates documents."""
    limit = tokens * _BYTES_A_TOKEN
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TextError(f"The text {path} cannot be read: {error.strerror}.") from None
    if len(data) > limit:
        data = data[:limit]
        while data and data[-1] & 0xC0 == 0x80:  # what may be a cut character
            data = data[:-1]
        data = data[:-1]
    return _text(path.name, data, path)


def _text(name: str, data: bytes, path: Path) -> Text:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x}): give plain text, or convert "
            "it first, for example with iconv."
        ) from None
    if "\0" in text:
        raise TextError(f"{path} is a binary file (it has zero bytes): give plain text in UTF-8.")
    documents = [stripped for document in text.split(SEPARATOR) if (stripped := document.strip())]
    if not documents:
        raise TextError(f"{path} is empty: give some pages of plain text in UTF-8.")
    return Text(name, hashlib.sha256(data).hexdigest(), documents)


Tokenize = Callable[[str, bool], list[int]]
"""Text to tokens, with or without what the model wants in front."""


def open_tokenizer(path: Path) -> Tokenize:
    """The tokenizer of a model file, llama.cpp's. Raises MissingExtraError without llama-cpp-python."""
    from halo.llama import open_vocabulary  # here: who does not calibrate does not need llama-cpp-python

    vocabulary = open_vocabulary(path)

    def tokenize(text: str, begin: bool) -> list[int]:
        return list(vocabulary.tokenize(text.encode("utf-8"), add_bos=begin, special=False))

    return tokenize


def pieces_of(text: Text, tokenize: Tokenize, n_ctx: int, most: int) -> list[Tokens]:
    """The documents as pieces of at most `n_ctx` and PIECE tokens, `most` in all; a document begins as generated
    text does, and each of its further pieces as well. Raises TextError for a text that is too short."""
    length = min(n_ctx, PIECE)
    pieces: list[Tokens] = []
    left = most
    for document in text.documents:
        bare = tokenize(document, False)
        whole = tokenize(document, True)
        begin = whole[: len(whole) - len(bare)]
        step = length - len(begin)
        for at in range(0, len(bare), step):
            piece = np.array([*begin, *bare[at : at + step]][:left], np.int32)
            if len(piece) < 2:  # nothing after the first position, which does not count
                continue
            pieces.append(piece)
            left -= len(piece)
        if left < 2:
            break
    if most - left < LEAST_TOKENS:
        raise TextError(
            f"The text ({text.name}) has {most - left} tokens, too few to learn anything from: give at least "
            f"{LEAST_TOKENS}, better 10000, which is a few dozen pages."
        )
    return pieces


def counted_tokens(pieces: list[Tokens]) -> int:
    """Tokens that statistics are made of: all but the first of each piece."""
    return sum(len(piece) - 1 for piece in pieces)
