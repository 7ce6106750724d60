"""The short way to use HALO: a prompt in, text out; in one piece or as it comes, blocking or async.

`generate`, `stream`, `agenerate` and `astream` take the same options, those of `Options`, the one place where
they are listed. Each call opens the model and its cell and closes them again; for many prompts keep a
`halo.HaloLlama`. `Generation` is what they are made of; it also measures (the command line prints its
`Figures`).
"""

from __future__ import annotations

import asyncio
import codecs
import functools
import inspect
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, asdict, dataclass
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from halo.cell.loop import end_wait_of
from halo.errors import ContextError
from halo.limits import (
    LIMITS,
    PARTIALS,
    PLANS,
    RESIDENCIES,
    TRANSPORTS,
    check,
    check_choice,
    check_kinds,
    check_prompt,
    check_stop,
)
from halo.llama import HaloLlama
from halo.quality import parse_quality

P = ParamSpec("P")
R = TypeVar("R")


_LONG = 1 << 16
"""Bytes of a prompt from which on it is worth to look first whether so many can be tokens of a context."""


@dataclass(frozen=True)
class Options:
    """What to generate, and with what. Defaults are those of llama.cpp's command line where it has the
    option.

    Args:
        prompt: Text to go on from; special tokens in it (`</s>`) are understood.
        model: A GGUF file; None: the demo model that comes with HALO.
        max_tokens: Stop after so many tokens; -1: when the context window is full.
        workers, broker, cell: Who takes part, as in `HaloLlama`; by default this device alone.
        temperature: 0 takes the most probable token always.
        top_k: Sample from the k most probable tokens; 0: from all.
        top_p: Sample from the most probable tokens that make up this probability.
        min_p: Leave out tokens less probable than this times the most probable one.
        repeat_penalty: Divide the logits of the last 64 tokens by this; 1: do not.
        seed: The same seed gives the same text; None or -1: a new one (`Figures.seed` tells it).
        stop: A string or several; the text ends before the first of them.
        n_ctx: Context window, tokens, rounded up to a multiple of 256; 0: the model's own.
        threads: Threads of this device; None: its cores, less those that workers started here use.
        worker_threads: Threads of each worker that is started here.
        worker_pace_us: Their pace, as in `HaloLlama`.
        partials, transport, plan, hub_share, residency: How partial sums travel, over what, who computes what,
            and what workers hold in memory, as in `HaloLlama`.
        quality, sidecar: How much may be late, and what is known of the model for that, as in `HaloLlama`.
        log: Called with a line of progress now and then; None: they go to stderr.

    Raises:
        ValueError: An option is out of its range (`halo.limits`), or the prompt holds half characters (surrogates).
        TypeError: An option is of another type: the prompt is no `str`, a number is none (None, where that is not the
            default), a stop string or the broker is bytes.
    """

    prompt: str
    _: KW_ONLY
    model: str | os.PathLike[str] | None = None
    max_tokens: int = 128
    workers: int | None = None
    broker: str | None = None
    cell: str = "halo"
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    n_ctx: int = 0
    threads: int | None = None
    worker_threads: int = 1
    worker_pace_us: int = 0
    partials: str = "fixed"
    transport: str = "auto"
    plan: str = PLANS[0]
    hub_share: float | None = None
    residency: str = "full"
    quality: str | float | None = None
    sidecar: str | os.PathLike[str] | None = None
    log: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        check(
            max_tokens=self.max_tokens,
            workers=self.workers,
            n_ctx=self.n_ctx,
            threads=self.threads,
            worker_threads=self.worker_threads,
            worker_pace_us=self.worker_pace_us,
            hub_share=self.hub_share,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            seed=self.seed,
        )
        check_kinds(model=self.model, sidecar=self.sidecar, broker=self.broker, cell=self.cell, log=self.log)
        check_stop(self.stop)
        check_choice("partials", self.partials, PARTIALS)
        check_choice("transport", self.transport, TRANSPORTS)
        check_choice("plan", self.plan, PLANS)
        check_choice("residency", self.residency, RESIDENCIES)
        if self.quality is not None:
            parse_quality(self.quality)

    def open_model(self) -> HaloLlama:
        """Open the model and its cell."""
        return HaloLlama(
            self.model,
            workers=self.workers,
            broker=self.broker,
            cell=self.cell,
            n_ctx=self.n_ctx,
            n_threads=self.threads,
            worker_threads=self.worker_threads,
            worker_pace_us=self.worker_pace_us,
            partials=self.partials,
            transport=self.transport,
            plan=self.plan,
            hub_share=self.hub_share,
            residency=self.residency,
            quality=self.quality,
            sidecar=self.sidecar,
            log=self.log,
        )

    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end the text; empty ones say nothing and are left out."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tuple(filter(None, stop))


@dataclass
class Figures:
    """What a generation took: counts, and seconds of work, without what the caller does between pieces."""

    seed: int
    load_s: float = 0.0  # opening the model and its cell
    prompt_tokens: int = 0
    tokens: int = 0  # sampled, an end-of-sequence token included
    first_token_s: float | None = None  # from the start of the prompt's evaluation
    generate_s: float = 0.0  # from the same start to the last token
    finish: str = ""  # why it ended: "stop" (the model, a stop string), "length" (max_tokens), "context" (full)

    @property
    def tokens_per_s(self) -> float | None:
        """Speed after the first token (whose time is the prompt's); None with fewer than two tokens."""
        if self.first_token_s is None or self.tokens < 2:
            return None
        return (self.tokens - 1) / (self.generate_s - self.first_token_s)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all fields, and `tokens_per_s`."""
        return {**asdict(self), "tokens_per_s": self.tokens_per_s}


class Generation:
    """One prompt on its way to text: a context manager that opens and closes, and an iterator of the text's
    pieces.

    Pieces are whole characters. Bytes that are not UTF-8 become U+FFFD at once; a last character that is cut
    in two by `max_tokens` is left out. Text that may be the start of a stop string is held back until that is
    known. It is for one text, and ends with `close`, as a generator does.

    >>> with Generation(Options("Once upon a time", max_tokens=20)) as generation:
    ...     for piece in generation:
    ...         print(piece, end="", flush=True)
    ...     print(generation.figures.tokens_per_s, generation.report())

    Raises (entering or iterating; the last when entering):
        ModelError, BrokerError, CellError: As `HaloLlama` does.
        RuntimeError: It is entered once more after `close`, or iterated before it is opened.
        ContextError: The prompt does not fit into the context window, or is empty, with a model without a begin of
            sequence.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        given = options.seed is not None and options.seed >= 0
        drawn = secrets.randbelow(int(LIMITS["seed"].high) + 1)
        self.figures = Figures(seed=cast(int, options.seed) if given else drawn)
        self._llama: HaloLlama | None = None
        self._text: Generator[str, None, None] | None = None
        self._opener: int | None = None
        """The thread that opens the model and its cell just now."""

    def open(self) -> None:
        """Open the model and its cell, where `with` has not done it yet, and look whether the prompt fits."""
        if self._llama is None:
            if self._text is not None:
                raise RuntimeError(
                    "This Generation is closed, and it was for one text: make another one, Generation(options)."
                )
            start = time.perf_counter()
            self._opener = threading.get_ident()
            try:
                self._llama = self.options.open_model()
            finally:
                self._opener = None
            self.figures.load_s = time.perf_counter() - start
            try:
                prompt = self._accepted(self._llama)
            except BaseException:
                self.close()
                raise
            self._text = self._pieces(self._llama, prompt)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the text and close the cell and the model; idempotent."""
        if self._text is not None:
            self._text.close()
        if (llama := self._llama) is not None:
            self._llama = None
            llama.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._text is None:
            raise RuntimeError("A Generation opens the model in `with`: iterate inside of it.")
        return next(self._text)

    def cancel(self) -> None:
        """Make a running forward pass raise, from any thread, or an opening that waits for its cell; else nothing
        happens."""
        if (llama := self._llama) is not None:
            llama.cancel()
        elif (thread := self._opener) is not None:
            end_wait_of(thread)

    def report(self) -> dict[str, Any]:
        """The cell's figures per device (`halo.cell.Cell.report`); before `close` only."""
        return {} if self._llama is None else self._llama.report()

    def _accepted(self, llama: HaloLlama) -> list[int]:
        """The prompt's tokens. Raises ContextError where there are none, or they leave no room for an answer."""
        size = len(self.options.prompt.encode())
        if size > _LONG and (least := llama.least_tokens(size)) >= llama.n_ctx():  # a wrong file, say: found in no time
            raise _too_long(f"at least {least}", least, llama)
        prompt = llama.prompt_tokens(self.options.prompt)
        if not prompt:
            raise ContextError(
                "The prompt is empty, and this model has no begin of sequence to go on from: give a prompt of at least "
                "one word."
            )
        n = len(prompt)
        if n >= llama.n_ctx():
            raise _too_long(str(n), n, llama)
        self.figures.prompt_tokens = n
        return prompt

    def _pieces(self, llama: HaloLlama, prompt: list[int]) -> Generator[str, None, None]:
        text = _Text(self.options.stop_strings())
        # After nothing but the begin of sequence, the tokenizer's own leading space is no part of the text.
        before = prompt if not self.options.prompt else []
        for token in self._tokens(llama, prompt):
            if llama.is_end(token):
                self.figures.finish = "stop"
                break
            if piece := text.feed(llama.detokenize([*before, token])):
                yield piece
            if text.stopped:
                self.figures.finish = "stop"
                break
            before = []
        if piece := text.finish():
            yield piece

    def _tokens(self, llama: HaloLlama, prompt: list[int]) -> Generator[int, None, None]:
        """Sample up to the limit, keeping time; the time between two requests for a token is the caller's."""
        options, figures = self.options, self.figures
        room = llama.n_ctx() - len(prompt)
        llama.set_seed(figures.seed)
        tokens = llama.generate(
            prompt,
            temp=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            repeat_penalty=options.repeat_penalty,
        )
        limit = min(options.max_tokens, room) if options.max_tokens >= 0 else room
        while figures.tokens < limit:
            start = time.perf_counter()
            token = next(tokens)
            figures.generate_s += time.perf_counter() - start
            figures.tokens += 1
            if figures.first_token_s is None:
                figures.first_token_s = figures.generate_s
            yield token
        figures.finish = "length" if limit == options.max_tokens else "context"


def _too_long(count: str, n: int, llama: HaloLlama) -> ContextError:
    trained = llama.n_ctx_train
    larger = f", or give a larger window (-c N, n_ctx), up to {trained} with this model" if n < trained else ""
    return ContextError(
        f"The prompt has {count} tokens, and the context window holds {llama.n_ctx()}, which must leave room for an "
        f"answer: shorten the prompt{larger}."
    )


class _Text:
    """Bytes of tokens in, text out: decoded as far as it is known, and up to the first stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stopped = False
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # may be the start of a stop string

    def feed(self, data: bytes) -> str:
        """Text that is certain now, maybe none."""
        text = self._held + self._decoder.decode(data)
        ends = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        return self._held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest start of `stop` that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def _taking(options: Callable[P, Options]) -> Callable[[Callable[[Options], R]], Callable[P, R]]:
    """Give a function of `Options` the parameters of `Options` itself, for type checkers and `help` too."""

    def decorate(function: Callable[[Options], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(options(*args, **kwargs))

        own = inspect.signature(function)
        shown = inspect.signature(options).replace(return_annotation=own.return_annotation)
        call.__signature__ = shown  # type: ignore[attr-defined]  # what `help` and `inspect` look at
        call.__doc__ = f"{inspect.getdoc(function)}\n\n{inspect.getdoc(options)}"
        return call

    return decorate


@_taking(Options)
def generate(options: Options) -> str:
    """Text that follows a prompt.

    >>> halo.generate("Once upon a time", workers=3, max_tokens=64)

    Raises: as `Generation`; ValueError for an option out of range; KeyboardInterrupt at Ctrl-C, with nothing
    left running.
    """
    with Generation(options) as generation:
        return "".join(generation)


@_taking(Options)
def stream(options: Options) -> Generator[str, None, None]:
    """Text that follows a prompt, in pieces as they come; closing the iterator early closes the cell.

    >>> for piece in halo.stream("Once upon a time"):
    ...     print(piece, end="", flush=True)

    Raises: as `generate`, at the first piece or later.
    """
    with Generation(options) as generation:
        yield from generation


@_taking(Options)
async def agenerate(options: Options) -> str:
    """`generate` for asyncio: the loop is never blocked, and cancelling the task stops the work at once, as that
    of `astream` does.

    Raises: as `generate`.
    """
    return "".join([piece async for piece in _apieces(options)])


@_taking(Options)
def astream(options: Options) -> AsyncGenerator[str, None]:
    """`stream` for asyncio: the loop is never blocked; cancelling the task, or `aclose`, stops the work at
    once.

    What is waited for then is that the cell is closed, so that nothing is left running; weights that are just
    being loaded are loaded first. A consumer that leaves the loop early should use `contextlib.aclosing`.

    >>> async for piece in halo.astream("Once upon a time"):
    ...     print(piece, end="", flush=True)

    Raises: as `generate`, at the first piece or later.
    """
    return _apieces(options)


async def _apieces(options: Options) -> AsyncGenerator[str, None]:
    """Drive a `Generation` on a thread of its own, a piece at a time."""
    generation = Generation(options)
    thread = ThreadPoolExecutor(1, "halo-generate")
    run = functools.partial(asyncio.get_running_loop().run_in_executor, thread)
    try:
        await run(generation.open)
        while (piece := await run(next, generation, None)) is not None:
            yield piece
    finally:
        closing = run(generation.close)
        thread.shutdown(wait=False)  # it ends after that
        await _finished(closing, generation.cancel)


async def _finished(closing: asyncio.Future[None], cancel: Callable[[], None]) -> None:
    """Wait for the close that is queued behind what the thread does, and cancel that.

    More than once, because a cancel between two forward passes does nothing; whatever happens to the waiting
    task.
    """
    cancelled: asyncio.CancelledError | None = None
    while not closing.done():
        cancel()
        try:
            await asyncio.wait({closing}, timeout=0.05)
        except asyncio.CancelledError as error:
            cancelled = error
    closing.result()
    if cancelled is not None:
        raise cancelled
