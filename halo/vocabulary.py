"""llama-cpp-python's `Llama` as far as it reads a model's vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_cpp import Llama

from halo.errors import ModelError
from halo.silence import silence
from halo.tokenizer import CarefulTokenizer


class VocabularyLlama(Llama):  # type: ignore[misc]  # llama_cpp carries no types
    """A `Llama` that says what is wrong with a file, and whose tokenizer never ends the process.

    Args:
        path: A GGUF file.
        missing: What `halo.model.vocabulary.check_vocabulary` has found of it.
        options: As in `Llama`.
    """

    def __init__(self, path: Path, missing: frozenset[int] = frozenset(), *, verbose: bool, **options: Any) -> None:
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
