"""Looks at a model's vocabulary before llama.cpp does, which aborts the whole process over some that are damaged.

Only who tokenizes needs it: a worker never reads the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from halo.errors import ModelError
from halo.model.gguf import GgufFile, read_arrays
from halo.words import shown

_MODEL = "tokenizer.ggml.model"
_KNOWN = ("llama", "gpt2")
"""The tokenizers of models of this family; over some others llama.cpp aborts, or makes other tokens than were meant."""
_PRE = "tokenizer.ggml.pre"
_TOKENS = "tokenizer.ggml.tokens"
_BESIDE = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")
"""One entry for each token; llama.cpp reads so many, however many there are."""


def check_vocabulary(file: GgufFile) -> frozenset[int]:
    """The bytes that no token stands for, in a vocabulary of single bytes and words; others do without.

    Raises ModelError where the tokenizer is another, or a token is there twice, or has no score or type.
    """
    kind = file.metadata.get(_MODEL, _KNOWN[0])  # where it is missing llama.cpp says that itself
    if kind not in _KNOWN:
        raise ModelError(
            f"{file.path} has a tokenizer of the kind {shown(kind)} ({_MODEL}); HALO runs models with "
            "'llama' or 'gpt2' (SentencePiece or BPE). Take another GGUF of the model, or another model."
        )
    path, arrays = file.path, read_arrays(file, (_TOKENS, *_BESIDE))
    if _TOKENS not in arrays:
        return frozenset()  # llama.cpp says that itself
    strings = arrays[_TOKENS].strings
    if strings is None:
        raise _damaged(path, "its tokens are no strings")
    tokens = [_as_llama_cpp_reads(token, i) for i, token in enumerate(strings)]
    if len(set(tokens)) != len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise _damaged(path, f"the token {twice[:40].decode('utf-8', 'replace')!r} is there twice")
    for key in _BESIDE:
        if key in arrays and arrays[key].length != len(tokens):
            raise _damaged(path, f"it has {len(tokens)} tokens, and {arrays[key].length} entries in {key}")
    return _missing_bytes(set(tokens)) if kind == _KNOWN[0] else frozenset()


def doubt_about_vocabulary(file: GgufFile) -> str | None:
    """A line for the user where a BPE vocabulary does not say how a text is split into words; llama.cpp warns, too."""
    if file.metadata.get(_MODEL) != "gpt2" or file.metadata.get(_PRE):
        return None
    return (
        f"the model does not say how its tokenizer splits a text ({_PRE} is missing; old converters left it out): "
        "llama.cpp's default is used, and the text may be poor; take a newer GGUF of the model, or convert it again"
    )


def _as_llama_cpp_reads(token: bytes, index: int) -> bytes:
    """Up to a zero byte; what is empty gets a name."""
    return token.partition(b"\0")[0] or b"[EMPTY_%d]" % index


def _missing_bytes(tokens: set[bytes]) -> frozenset[int]:
    return frozenset(i for i in range(256) if b"<0x%02X>" % i not in tokens and bytes([i]) not in tokens)


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"The vocabulary of {path} is damaged: {why}. Download or copy the file again.")
