"""Which texts are taken, and how they are cut into pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from halo.errors import TextError
from halo.predictor import Text, builtin_text, read_text
from halo.predictor.text import LEAST_TOKENS, counted_tokens, pieces_of


def by_words(text: str, begin: bool) -> list[int]:
    return [1] * begin + [2 + len(word) for word in text.split()]


def documents(*lengths: int) -> Text:
    return Text("made-up", "", [" ".join(["word"] * n) for n in lengths])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n<|endoftext|>\n", "is empty"),
        (b"GGUF\x03\x00\x00\x00", "binary"),
        (b"caf\xe9 au lait", "not UTF-8"),
        (bytes(range(128, 256)), "not UTF-8"),
    ],
)
def test_text_that_is_none_is_refused_with_a_reason(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(TextError, match=said):
        read_text(path, 1000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nowhere\.txt cannot be read"):
        read_text(tmp_path / "nowhere.txt", 1000)
    with pytest.raises(TextError, match="cannot be read"):
        read_text(tmp_path, 1000)


@pytest.mark.parametrize("shift", range(4))
def test_a_long_file_is_read_in_part_and_no_character_is_cut(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "text.txt"
    path.write_text("x" * shift + "\N{GRINNING FACE}" * 5000)
    (document,) = read_text(path, 600).documents
    assert 0 <= 600 * 16 - len(document.encode()) <= 4


def test_pieces_fit_the_context_and_each_has_what_the_model_wants_in_front() -> None:
    pieces = pieces_of(documents(250, 1, 700), by_words, 100, 10_000)
    assert [len(piece) for piece in pieces] == [100, 100, 53, 2, *[100] * 7, 8]
    assert all(piece[0] == 1 and (piece[1:] == 6).all() for piece in pieces)
    assert counted_tokens(pieces) == 951


def test_no_more_tokens_are_taken_than_asked_for() -> None:
    pieces = pieces_of(documents(400, 4000), by_words, 4096, 600)
    assert [len(piece) for piece in pieces] == [401, 199]


def test_a_text_that_is_too_short_says_how_long_it_should_be() -> None:
    with pytest.raises(TextError, match=f"11 tokens.*at least {LEAST_TOKENS}"):
        pieces_of(documents(10), by_words, 100, 10_000)


def test_the_text_that_comes_with_halo_is_long_and_varied() -> None:
    text = builtin_text()
    assert len(text.documents) >= 20
    words = [word for document in text.documents for word in document.split()]
    assert len(words) > 4000 and len(set(words)) > 1500
