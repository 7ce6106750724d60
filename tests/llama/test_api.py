"""`generate`, `stream` and their async twins: the same text, whole characters, and nothing left running."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import halo
from halo.api import Generation, Options, _Text
from halo.errors import ContextError
from tests.llama.oracle import Memory, Oracle

PROMPT = "Once upon a time, there was a little"
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}


class Opened:
    """What the API opened: its models, whether they are closed, and the engine behind them."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.models: list[halo.HaloLlama] = []
        self.closed = 0


@pytest.fixture
def opened(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Let the API open models over an oracle."""
    with Oracle(model_path) as engine:
        record = Opened(engine)

        class Watched(halo.HaloLlama):  # type: ignore[misc]
            def close(self) -> None:
                if self in record.models:
                    record.closed += 1
                super().close()

        def open_model(options: Options) -> halo.HaloLlama:
            record.models.append(Watched(model_path, engine=record.engine))
            return record.models[-1]

        monkeypatch.setattr(Options, "open_model", open_model)
        yield record
        record.models.clear()


def completed(opened: Opened, prompt: str = PROMPT, **options: Any) -> str:
    """The text that `create_completion` gives."""
    llama = Options(prompt).open_model()
    text: str = llama.create_completion(prompt, **options)["choices"][0]["text"]
    opened.closed = 0
    return text


@pytest.mark.parametrize("prompt", [PROMPT, "", "A cat"])
def test_all_four_give_the_text_of_create_completion(opened: Opened, prompt: str) -> None:
    # After an empty prompt llama-cpp-python counts the begin of sequence as generated.
    expected = completed(opened, prompt, **{**GREEDY, "max_tokens": 24 + (not prompt)})

    async def pieces() -> list[str]:
        return [piece async for piece in halo.astream(prompt, **GREEDY)]

    assert halo.generate(prompt, **GREEDY) == expected
    assert "".join(halo.stream(prompt, **GREEDY)) == expected
    assert asyncio.run(halo.agenerate(prompt, **GREEDY)) == expected
    assert "".join(asyncio.run(pieces())) == expected
    assert opened.closed >= 4


def test_a_seed_repeats_a_text_and_the_figures_tell_it(opened: Opened) -> None:
    with Generation(Options(PROMPT, temperature=1.5)) as generation:
        text = "".join(generation)
    assert halo.generate(PROMPT, temperature=1.5, seed=generation.figures.seed) == text
    assert halo.generate(PROMPT, temperature=1.5, seed=-1) != text


def test_stop_strings_end_the_text_before_them(opened: Opened) -> None:
    text = completed(opened, **GREEDY)
    stop = text[9:13]
    expected = text[: text.index(stop)]
    assert halo.generate(PROMPT, stop=stop, **GREEDY) == expected
    assert "".join(halo.stream(PROMPT, stop=["not there", stop, ""], **GREEDY)) == expected


@pytest.mark.parametrize("max_tokens, tokens, finish", [(-1, 62, "context"), (0, 0, "length"), (5, 5, "length")])
def test_minus_one_is_until_the_window_is_full_and_zero_is_nothing(
    opened: Opened, max_tokens: int, tokens: int, finish: str
) -> None:
    opened.engine = Memory(opened.engine.n_vocab, n_ctx=64)
    with Generation(Options("a", max_tokens=max_tokens, temperature=0.0)) as generation:
        text = "".join(generation)
    assert generation.figures.prompt_tokens == 2
    assert (generation.figures.tokens, generation.figures.finish) == (tokens, finish)
    assert bool(text) == bool(tokens)


def test_a_text_that_a_stop_string_ends_says_so(opened: Opened) -> None:
    stop = completed(opened, **GREEDY)[9:13]
    with Generation(Options(PROMPT, stop=stop, **GREEDY)) as generation:
        "".join(generation)
    assert generation.figures.finish == "stop"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": value} for value in (-1, float("nan"), float("inf"))),
        *({"top_p": 7}, {"min_p": 2}, {"top_k": -1}, {"top_k": 2**31}, {"repeat_penalty": 0}),
        *({"seed": 2**32 - 1}, {"seed": -2}, {"max_tokens": -2}),
        *({"n_ctx": -1}, {"n_ctx": 2_000_000}, {"threads": 0}, {"threads": 300}, {"workers": 65}),
    ],
)
def test_numbers_out_of_their_range_are_refused_with_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"it must be a (whole )?number from"):
        halo.generate(PROMPT, **wrong)


@pytest.mark.parametrize(
    "prompt, options, error, said",
    [
        (None, {}, TypeError, "must be a str"),
        (b"Once", {}, TypeError, "Decode bytes first"),
        ("a\udcff", {}, ValueError, "character 1 is .* half of one"),
        (PROMPT, {"max_tokens": 1.5}, TypeError, "max_tokens is 1.5; it must be a whole number"),
        (PROMPT, {"temperature": "1"}, TypeError, "temperature is '1'; it must be a number"),
        (PROMPT, {"max_tokens": None}, TypeError, r"max_tokens is None; .* \(-1: until the context window is full"),
        (PROMPT, {"threads": 1.5}, TypeError, "^threads is 1.5; it must be a whole number .*, or None"),
    ],
)
def test_what_is_no_text_and_no_number_is_refused(
    prompt: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        halo.generate(prompt, **options)


NULLABLE = ("model", "workers", "broker", "seed", "stop", "threads", "hub_share", "quality", "sidecar", "log")


def test_none_is_refused_where_it_is_not_the_default() -> None:
    Options(PROMPT, **dict.fromkeys(NULLABLE))
    others = set(inspect.signature(Options).parameters) - {"prompt", *NULLABLE}
    assert len(others) > 10
    for name in others:
        with pytest.raises((TypeError, ValueError), match=f"^{name} is (None|of the type NoneType); it must be "):
            Options(PROMPT, **{name: None})


@pytest.mark.parametrize(
    "options, said",
    [
        ({"stop": 5}, "stop is 5; it must be a str, a list of them, or None"),
        ({"stop": b"x"}, "stop is b'x'; it must be a str"),
        ({"stop": ["x", b"y"]}, r"stop is \['x', b'y'\]; it must be a str"),
        ({"broker": b"mqtt://me:secret@pi1"}, "broker is of the type bytes; it must be a str such as 'mqtt://pi1'"),
        ({"cell": 5}, "cell is of the type int; it must be a str"),
        ({"log": 5}, "log is of the type int; it must be a function"),
        ({"model": b"x.gguf"}, "model is of the type bytes; it must be a path"),
        ({"sidecar": b"x.gguf"}, "sidecar is of the type bytes; it must be a path"),
    ],
)
def test_what_is_of_another_type_is_refused_by_name_and_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=f"^{said}"):
        Options(PROMPT, **options)


def test_halo_llama_refuses_other_types_too() -> None:
    for options, said in (
        ({"model_path": b"x.gguf"}, "model_path is of the type bytes"),
        ({"broker": 5}, "broker is of the type int"),
        ({"n_ctx": None}, r"n_ctx is None; it must be a whole number from 0 to \d+ \(0: the model's own\)"),
    ):
        with pytest.raises(TypeError, match=f"^{said}"):
            halo.HaloLlama(**options)


def test_stop_strings_may_be_of_any_collection() -> None:
    for stop in (["a", ""], ("a",), {"a"}, "a"):
        assert Options(PROMPT, stop=stop).stop_strings() == ("a",)  # type: ignore[arg-type]
    assert Options(PROMPT, stop=[]).stop_strings() == ()


def test_a_prompt_that_does_not_fit(opened: Opened) -> None:
    with pytest.raises(ContextError, match="the context window holds 256"):
        halo.generate(PROMPT * 60)
    assert opened.closed >= 1


def test_figures(opened: Opened) -> None:
    opened.engine.delay = 0.01
    asleep_s = 0.0
    with Generation(Options(PROMPT, max_tokens=11, seed=1)) as generation:
        opened_at = time.perf_counter()
        for _ in generation:
            lay_down_at = time.perf_counter()
            time.sleep(0.02)
            asleep_s += time.perf_counter() - lay_down_at
        elapsed_s = time.perf_counter() - opened_at
        figures = generation.figures.as_dict()
        assert generation.report() == {}
        assert figures["prompt_tokens"] == len(opened.models[-1].prompt_tokens(PROMPT))
    assert figures["tokens"] == 11
    assert 0.01 < figures["first_token_s"] < figures["generate_s"]
    assert figures["generate_s"] <= elapsed_s - asleep_s  # the caller's time is not the model's
    assert figures["tokens_per_s"] == pytest.approx(10 / (figures["generate_s"] - figures["first_token_s"]))
    assert figures["load_s"] > 0


def test_opening_before_with_opens_once(opened: Opened) -> None:
    generation = Generation(Options(PROMPT, max_tokens=3))
    with pytest.raises(RuntimeError, match="in `with`"):
        next(generation)
    generation.open()
    with generation:
        assert "".join(generation)
    assert len(opened.models) == opened.closed == 1


def test_a_generation_is_for_one_text(opened: Opened) -> None:
    generation = Generation(Options(PROMPT, max_tokens=3))
    with generation:
        assert "".join(generation)
    for again in (generation.open, generation.__enter__):
        with pytest.raises(RuntimeError, match=r"for one text: make another one, Generation\(options\)"):
            again()
    generation.close()
    assert len(opened.models) == opened.closed == 1


def test_a_generation_that_could_not_be_opened_may_be_opened_again(opened: Opened) -> None:
    engine, opened.engine = opened.engine, Memory(opened.engine.n_vocab, n_ctx=2)
    generation = Generation(Options(PROMPT, max_tokens=3))
    with pytest.raises(ContextError):
        generation.open()
    opened.engine = engine
    with generation:
        assert "".join(generation)


def test_leaving_a_stream_early_closes_the_cell(opened: Opened) -> None:
    pieces = halo.stream(PROMPT, **GREEDY)
    next(pieces)
    assert opened.closed == 0
    pieces.close()
    assert opened.closed == 1


def scripted(opened: Opened, pieces: list[bytes]) -> list[str]:
    """Pieces of a stream whose tokens are those of the given bytes."""
    llama = Options("").open_model()
    ids = {llama.detokenize([token]): token for token in reversed(range(llama.n_vocab()))}
    opened.engine = Memory(llama.n_vocab(), script=[ids[piece] for piece in pieces])
    return list(halo.stream("a", temperature=0.0, max_tokens=len(pieces)))


def test_a_character_of_several_tokens_comes_whole(opened: Opened) -> None:
    snowman = [bytes([byte]) for byte in "☃".encode()]
    try:
        assert scripted(opened, [b"a", *snowman, b"b"]) == ["a", "☃", "b"]
        assert scripted(opened, [b"a", b"\xff", b"b", snowman[0], b"c"]) == ["a", "\ufffd", "b", "\ufffdc"]
        assert scripted(opened, [b"a", *snowman[:2]]) == ["a"]
    except KeyError as missing:
        pytest.skip(f"this vocabulary has no token for {missing}")


@given(text=st.text(max_size=30), cuts=st.sets(st.integers(0, 120)), stop=st.text("ab", max_size=3))
def test_text_is_the_same_however_its_bytes_come(text: str, cuts: set[int], stop: str) -> None:
    data = text.encode()
    ends = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    filtered = _Text([stop] if stop else [])
    got = ""
    for start, end in itertools.pairwise(ends):
        got += filtered.feed(data[start:end])
        if filtered.stopped:
            break
    got += filtered.finish()
    assert got == (text.split(stop)[0] if stop else text)


def test_nothing_is_held_back_without_need() -> None:
    text = _Text(["stop"])
    assert text.feed(b"a s") == "a "
    assert text.feed(b"t") == ""
    assert text.feed(b"ay ") == "stay "
    assert text.feed(b"\xff!") == "\ufffd!"
    assert text.feed(b"sto") == ""
    assert text.finish() == "sto"


def assert_nothing_runs(opened: Opened) -> None:
    assert opened.closed == len(opened.models) > 0
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("halo-generate") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread is left"
        time.sleep(0.01)


@pytest.mark.parametrize("cancels", [1, 3])
def test_cancelling_a_task_stops_the_work(opened: Opened, cancels: int) -> None:
    opened.engine.delay = 30.0

    async def cancelled() -> None:
        task = asyncio.ensure_future(halo.agenerate(PROMPT))
        await asyncio.sleep(0.3)
        for _ in range(cancels):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert (opened.engine.forwards, opened.engine.interrupted) == (1, 1)  # it was not waited for
    assert_nothing_runs(opened)


def test_leaving_an_async_stream_early_closes_the_cell(opened: Opened) -> None:
    async def first() -> str:
        async with contextlib.aclosing(halo.astream(PROMPT)) as pieces:
            async for piece in pieces:
                return piece
        return ""

    assert asyncio.run(first())
    assert_nothing_runs(opened)


def test_the_loop_is_never_blocked(opened: Opened) -> None:
    """No forward goes on before the loop has done something else meanwhile."""
    forward = opened.engine.forward

    async def generated() -> str:
        loop = asyncio.get_running_loop()

        def after_a_turn(*args: Any) -> Any:
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(10), "the loop is blocked"
            return forward(*args)

        opened.engine.forward = after_a_turn
        return await halo.agenerate(PROMPT, max_tokens=5)

    assert asyncio.run(generated())
    assert opened.engine.forwards >= 5


def test_errors_come_out_of_the_async_twins(opened: Opened) -> None:
    with pytest.raises(ContextError):
        asyncio.run(halo.agenerate(PROMPT * 60))
    assert_nothing_runs(opened)


def test_each_function_shows_the_options_and_their_help() -> None:
    options = inspect.signature(Options).parameters
    for function in (halo.generate, halo.stream, halo.agenerate, halo.astream):
        assert inspect.signature(function).parameters == options
        assert "max_tokens: Stop after" in (function.__doc__ or "")
    with pytest.raises(TypeError, match="max_token"):
        halo.stream(PROMPT, max_token=3)  # type: ignore[call-arg]
