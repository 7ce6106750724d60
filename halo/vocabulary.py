"""llama-cpp-python's `Llama` as far as it reads a model's vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llama_cpp import Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from halo.errors import ModelError
from halo.silence import silence
from halo.tokenizer import CarefulTokenizer
from halo.words import clean

_TEMPLATE = "tokenizer.chat_template"  # and `tokenizer.chat_template.NAME`
_LONGEST_REASON = 200


class VocabularyLlama(Llama):  # type: ignore[misc]  # llama_cpp carries no types
    """A `Llama` that says what is wrong with a file, and whose tokenizer never ends the process.

    Args:
        path: A GGUF file.
        missing: What `halo.model.vocabulary.check_vocabulary` has found of it.
        options: As in `Llama`.
    """

    def __init__(self, path: Path, missing: frozenset[int] = frozenset(), *, verbose: bool, **options: Any) -> None:
        self.unusable_templates: dict[str, str] = {}
        """Chat templates that Jinja rejects, by their metadata keys: why. Whoever chats is told, and nobody else."""
        try:
            with silence(verbose):
                super().__init__(str(path), verbose=verbose, **options)
        except ValueError as error:
            raise ModelError(
                f"llama.cpp cannot read the vocabulary of {path} ({error}): a model for HALO needs a "
                "tokenizer in its file; convert it again, or take one that llama.cpp runs."
            ) from error
        if missing:
            self.tokenizer_: Any = CarefulTokenizer(self, missing)

    @property
    def metadata(self) -> dict[str, str]:
        """As in `Llama`, which compiles all chat templates when it opens; one that it cannot raises when it is used."""
        return self._metadata

    @metadata.setter
    def metadata(self, found: dict[str, str]) -> None:
        self._metadata = {key: self._usable(key, value) for key, value in found.items()}

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
