"""llama.cpp's tokenizer, so that no text ends the process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import llama_cpp
from llama_cpp.llama_tokenizer import LlamaTokenizer

from halo.errors import ModelError
from halo.words import shown

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}".encode()
"""Stands for one in SentencePiece vocabularies; one is put in front of a text."""
_CHARACTER = re.compile(rb"[\xf0-\xff].{0,3}|[\xe0-\xef].{0,2}|[\xc0-\xdf].?|.", re.DOTALL)
"""As llama.cpp cuts a text, also one that is not UTF-8: by the first byte alone."""


_RUNS = re.compile(rb"[ \t\n\r\f\v]+|[^ \t\n\r\f\v]+")
_STACK_EACH = 512
"""Bytes of stack for one of a run. Where llama.cpp has no code of its own for a pre-tokenizer it uses std::regex, which
calls itself for each character of a match: 320 bytes each, in its builds for x86-64."""
_STACK_ANYWAY = 1 << 20
_RUN_WITHOUT_MORE = 512
"""A thread's usual stack is enough for that: 8 MiB, and 1 MiB where somebody is sparing with it."""
_LONGEST_RUN = 1 << 19
_T = TypeVar("_T")
_sizing = threading.Lock()


class RoomyTokenizer(LlamaTokenizer):  # type: ignore[misc]  # llama_cpp carries no types
    """The tokenizer of a byte-pair vocabulary, which has the stack that a text takes."""

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> Any:
        """As `LlamaTokenizer.tokenize`. Raises ValueError: the text has a run that is too long."""
        # What is matched at once is letters, say, or blanks; or signs and the line ends behind them.
        runs = [len(run) for run in _RUNS.findall(text)] if len(text) > _RUN_WITHOUT_MORE else []
        longest = max(map(sum, pairwise([0, *runs])), default=0)
        if longest <= _RUN_WITHOUT_MORE:
            return super().tokenize(text, add_bos, special)
        if longest > _LONGEST_RUN:
            raise ValueError(
                f"The text has {longest} bytes on end without a blank among letters, or without a letter among blanks; "
                f"the tokenizer takes {_LONGEST_RUN}. It is no text, most likely; else put blanks or line ends into it."
            )
        tokenize = super().tokenize
        return _with_stack(_STACK_ANYWAY + longest * _STACK_EACH, lambda: tokenize(text, add_bos, special))


def _with_stack(size: int, call: Callable[[], _T]) -> _T:
    """Call it in a thread with that many bytes of stack. Raises MemoryError where there are not as many."""
    with ThreadPoolExecutor(1, "halo-tokenizer") as thread:  # left when it is done: nobody may close what it works with
        with _sizing:  # the size is the process's, for all threads that are started
            usual = threading.stack_size(-(-size >> 20) << 20)
            try:
                future = thread.submit(call)
            except RuntimeError as error:
                why = f"There is no memory for the {size >> 20} MiB of stack that this text takes."
                raise MemoryError(why) from error
            finally:
                threading.stack_size(usual)
        return future.result()


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
