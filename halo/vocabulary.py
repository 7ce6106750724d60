"""llama-cpp-python's `Llama` as far as it reads a model's vocabulary."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from halo.errors import ModelError
from halo.silence import silence
from halo.tokenizer import CarefulTokenizer, RoomyTokenizer
from halo.words import clean

_TEMPLATE = "tokenizer.chat_template"  # and `tokenizer.chat_template.NAME`
_LONGEST_REASON = 200
_NO_END = {"tokenizer.ggml.add_eos_token": False}
"""Some models were trained on texts with an end of sequence behind each. What is to be gone on from has none: nothing
would follow it. llama.cpp's programs that complete texts refuse such models and have the user say this very thing."""
_PREAMBLE = re.compile(r"(\w+: )?(error loading model( \w+)*: )*")
"""What llama.cpp puts before its reason."""
_OF_THE_TOKENIZER = "error loading model vocabulary"


class VocabularyLlama(Llama):  # type: ignore[misc]  # llama_cpp carries no types
    """A `Llama` that says what is wrong with a file, and whose tokenizer never ends the process.

    It puts no end of sequence behind a text, whatever the model says.

    Args:
        path: A GGUF file.
        missing: What `halo.model.vocabulary.check_vocabulary` has found of it.
        options: As in `Llama`.
    """

    def __init__(self, path: Path, missing: frozenset[int] = frozenset(), *, verbose: bool, **options: Any) -> None:
        self.unusable_templates: dict[str, str] = {}
        """Chat templates that Jinja rejects, by their metadata keys: why. Whoever chats is told, and nobody else."""
        if not _is_utf8(path):
            raise ModelError(
                f"The path {clean(str(path))} is not UTF-8, and llama.cpp, which reads the model's vocabulary, opens "
                "no such file: rename the file, or the folder."
            )
        with silence(verbose) as errors:
            try:
                super().__init__(str(path), verbose=verbose, kv_overrides=_NO_END, **options)
            except ValueError as error:
                raise _unreadable(path, errors[0] if errors else str(error)) from error
        if missing:
            self.tokenizer_: Any = CarefulTokenizer(self, missing)
        elif llama_cpp.llama_vocab_type(self._model.vocab) == llama_cpp.LLAMA_VOCAB_TYPE_BPE:
            self.tokenizer_ = RoomyTokenizer(self)

    @property
    def metadata(self) -> dict[str, str]:
        """As in `Llama`, which compiles all chat templates when it opens; one that it cannot raises when it is used."""
        return self._metadata

    @metadata.setter
    def metadata(self, found: dict[str, str]) -> None:
        self._metadata = {key: self._usable(key, value) for key, value in found.items()}

    def least_tokens(self, size: int) -> int:
        """How many tokens a text of `size` bytes has at least: no token stands for more bytes than its own text has."""
        return size // self._longest_token

    @cached_property
    def _longest_token(self) -> int:
        """In bytes; not less than a character may have, of which an unknown one is a token, too."""
        texts = (llama_cpp.llama_vocab_get_text(self._model.vocab, i) for i in range(self.n_vocab()))
        return max(4, max(map(len, texts)))

    def _usable(self, key: str, value: str) -> str:
        if key != _TEMPLATE and not key.startswith(f"{_TEMPLATE}."):
            return value
        try:
            Jinja2ChatFormatter(value, eos_token="", bos_token="")
        except Exception as error:  # of Jinja, or of Python over what Jinja has made of it
            why = self.unusable_templates[key] = clean(str(error).partition("\n")[0], _LONGEST_REASON)
            said = (
                f"The chat template of the model cannot be used ({why}): open it with a chat_format or a chat_handler, "
                "or take another GGUF of the model."
            )
            return f"{{{{ raise_exception({json.dumps(said)}) }}}}"
        return value


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(path: Path, error: str) -> ModelError:
    """With llama.cpp's own reason."""
    reason = clean(_PREAMBLE.sub("", error.strip(), count=1), _LONGEST_REASON)
    if "unknown pre-tokenizer" in reason:
        advice = (
            f"The model is most likely newer than llama-cpp-python {llama_cpp.__version__}, which is installed: update "
            "it together with HALO (pip install -U 'halo-llm[hub]'), or take another model."
        )
    elif _OF_THE_TOKENIZER in error:
        advice = (
            "A model for HALO needs a tokenizer that llama.cpp reads: convert it again, or take another GGUF of it."
        )
    else:
        advice = (
            "The file is damaged, or a faulty program has made it: download or copy it again, convert the model again, "
            "or take another GGUF of it."
        )
    return ModelError(f"llama.cpp cannot read {path}: {reason}. {advice}")
