"""llama.cpp's tokenizer, asked for no text over which it would end the process."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any

import llama_cpp
from llama_cpp.llama_tokenizer import LlamaTokenizer

from halo.errors import ModelError
from halo.words import shown

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}".encode()
"""Stands for one in SentencePiece vocabularies; one is put in front of a text."""
_CHARACTER = re.compile(rb"[\xf0-\xff].{0,3}|[\xe0-\xef].{0,2}|[\xc0-\xdf].?|.", re.DOTALL)
"""As llama.cpp cuts a text, also one that is not UTF-8: by the first byte alone."""


class CarefulTokenizer(LlamaTokenizer):  # type: ignore[misc]  # llama_cpp carries no types
    """The tokenizer of a SentencePiece vocabulary in which some bytes have no token.

    A character that is no token becomes its bytes' tokens; llama.cpp has no answer where these are missing. Such a text
    is a ModelError; all others are as ever.
    """

    def __init__(self, llama: llama_cpp.Llama, missing: Collection[int]) -> None:
        super().__init__(llama)
        self._path, self._missing = llama.model_path, frozenset(missing)
        vocabulary = self._model.vocab
        self._attributes: dict[bytes, int] = {
            llama_cpp.llama_vocab_get_text(vocabulary, i): llama_cpp.llama_vocab_get_attr(vocabulary, i)
            for i in range(self._model.n_vocab())
        }
        self._whole = cache(self._pattern)

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> Any:
        """As `LlamaTokenizer.tokenize`. Raises ModelError: the character, and what to try."""
        pieces = self._whole(special).split(text)
        for character in {c for piece in pieces if piece for c in _CHARACTER.findall(b" " + piece)}:
            token = _SPACE if character == b" " else character
            if token not in self._attributes and (bare := self._missing.intersection(token)):
                raise ModelError(
                    f"The vocabulary of {self._path} has no token for {shown(character.decode('utf-8', 'replace'))}, "
                    f"which is in the text, and none for its bytes ({', '.join(f'<0x{b:02X}>' for b in sorted(bare))}):"
                    " it was made without them, or is damaged. Leave that character out, or take another GGUF of the "
                    "model."
                )
        return super().tokenize(text, add_bos, special)

    def _pattern(self, special: bool) -> re.Pattern[bytes]:
        """Finds tokens that are taken out of a text before it is cut."""
        kinds = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        if special:
            kinds |= llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        found = sorted((t for t, attribute in self._attributes.items() if attribute & kinds), key=len, reverse=True)
        return re.compile(b"|".join(map(re.escape, found)) or rb"(?!)")
