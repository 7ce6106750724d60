"""`HaloLlama`: llama-cpp-python's `Llama` with HALO's engine in the place of llama.cpp's.

llama-cpp-python keeps what it does well (tokenizer, chat templates, samplers, grammars, the OpenAI-shaped
API) and loads nothing but the vocabulary; every forward pass goes to an engine, which may be a cell of many
devices. The subclass leans on private names of one version of llama-cpp-python. They are in this file and in
`halo.vocabulary`, `halo.tokenizer` and `halo.silence`, and they are looked for at import, so that another version
gives one clear error instead of a strange one later.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from halo.engine import Engine
from halo.errors import ContextError, MissingExtraError, ModelError
from halo.limits import LIMITS, PLANS, check, check_hub_share, check_kinds
from halo.quality import EXACT, parse_quality

if TYPE_CHECKING:
    from halo.cell.engine import CellEngine
    from halo.model import Model

WANTED = "0.3.36"  # the version of llama-cpp-python whose private names are used here

try:
    import llama_cpp
    from llama_cpp import Llama
except ImportError as error:
    raise MissingExtraError(
        f"The hub needs llama-cpp-python {WANTED}, which cannot be imported ({error}): "
        "install it with `pip install 'halo-llm[hub]'`."
    ) from error

_CLASS_NAMES = {"_init_sampler", "_scores"}
_INSTANCE_NAMES = {
    "_candidates",
    "_ctx",
    "_logits_all",
    "_model",
    "_n_ctx",
    "_n_vocab",
    "_requires_eval",
    "_sampler",
    "_stack",
    "suppress_stdout_stderr",  # this one is for halo.silence
    "tokenizer_",  # for halo.vocabulary
}


def _missing_names() -> set[str]:
    """Private names that we use and the installed llama-cpp-python does not have."""
    return (_CLASS_NAMES - set(dir(Llama))) | (_INSTANCE_NAMES - set(Llama.__init__.__code__.co_names))


if _missing_names():
    raise MissingExtraError(
        f"HALO needs llama-cpp-python {WANTED}, but {llama_cpp.__version__} is installed, which has no "
        f"{', '.join(sorted(_missing_names()))}: install the right one with `pip install 'halo-llm[hub]'`."
    )

from halo.vocabulary import VocabularyLlama  # noqa: E402 (it uses those names)

SLOT = 0  # the front end holds one sequence


def open_llama(path: Path, **options: Any) -> Llama:
    """llama.cpp itself, options as in `Llama`. Raises ModelError, also where it would end the process over the file."""
    from halo.model.split import read_parts
    from halo.model.vocabulary import check_vocabulary

    file = read_parts(path)
    return VocabularyLlama(file.path, check_vocabulary(file), verbose=False, **options)


def open_vocabulary(path: Path) -> Llama:
    """llama.cpp with the vocabulary of a model file and nothing else, for its tokenizer. Raises ModelError."""
    return open_llama(path, vocab_only=True, n_ctx=32, n_batch=1)


class _Context:
    """Stands in for llama-cpp-python's context: what concerns the cache goes to the engine."""

    def __init__(self, context: Any, engine: Engine) -> None:
        self._context = context
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def n_ctx(self) -> int:
        return self._engine.n_ctx

    def kv_cache_seq_rm(self, seq_id: int, p0: int, p1: int) -> bool:
        """Forget the positions from `p0` on; False, and nothing done, for a range with more behind it."""
        if 0 <= p1 < self._engine.n_past(SLOT):
            return False
        self._engine.truncate(SLOT, max(p0, 0))
        return True

    def kv_cache_clear(self) -> None:
        self._engine.truncate(SLOT, 0)


class _Closed:
    """Stands in for all that is gone after `close`."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError("This HaloLlama is closed: open another one.")


class HaloLlama(VocabularyLlama):
    """A `llama_cpp.Llama` whose forward passes run on HALO: this device, with workers where there are any.

    Everything of `Llama` that makes and samples tokens works as it does there: calling the object,
    `create_completion`, `create_chat_completion`, `generate`, `eval`, `sample`, grammars, logits processors,
    stopping criteria, logprobs. What needs llama.cpp's own context raises `NotImplementedError`: saved
    states, `set_cache`, embeddings, pickling. One caller at a time, as for `Llama`.

    Ctrl-C during a forward pass raises `KeyboardInterrupt`; the object stays usable, as after the last whole
    batch.

    Args:
        model_path: A GGUF file; None: the demo model that comes with HALO.
        workers: How many workers take part; see `broker`. None or 0 without a broker: this device alone.
        broker: `mqtt://[user:password@]host[:port]` or `mqtts://...`: join the cell of that broker, with
            `workers` of its workers (None: those that are ready within about two seconds). None: with
            `workers=K`, start a broker and K workers on this machine, and stop them again in `close`.
        cell: Name of the cell at the broker.
        n_ctx: Context window, tokens, rounded up to a multiple of 256 as llama.cpp does; 0: the model's own.
        n_batch: Rows of a prompt that are evaluated at once; Ctrl-C is quick whatever it is.
        n_threads: Threads of this device; None: its cores, less those that workers started here use.
        worker_threads: Threads of each worker that is started here.
        worker_pace_us: A request takes each worker that is started here at least so many microseconds: what
            the arithmetic leaves of it is slept. For measuring several slow devices on one machine.
        partials: How partial sums travel: "fixed" (the same logits bit for bit, whoever computed what),
            "f32", or "f16" (half the bytes, rounded to 11 bits).
        transport: What carries requests and partials to the workers: "auto" (datagrams to those that answer
            them, MQTT to the others), "udp" (datagrams or an error) or "mqtt".
        plan: Who computes what: "auto", so that all devices finish together, or "even", where the workers have
            equal shares of every layer.
        hub_share: With "even", the share of every layer's groups that this device computes, from 0 to 1; 0:
            none; None: as much as a worker.
        residency: What workers hold in memory: "full" (the whole model) or "shards" (each a part of every
            layer, which no other worker holds; this device keeps its share, and reads from its file what
            nobody has).
        quality: How much may be late: "exact" (nothing: with `fixed` partials the same text whatever the network
            does), "balanced" (a quarter of each layer's MLP, by prediction what matters least for this token),
            "fast" (half of it), or such a share from 0 to 1; None: "balanced" where there is a usable sidecar, else
            "exact". Late is what an unreliable worker has not answered in time: its mean is used, and corrected one
            step later. May be changed between calls: the property `quality`.
        sidecar: What `halo calibrate` has learned of this model; None: `<model>.halo.gguf` beside it. One that is
            named and cannot be used is a SidecarError; of one that is found, a line of log tells, and all is exact.
        seed: Of the sampler; as in `Llama`, the same seed gives the same text.
        logits_all: Keep the logits of every position (n_ctx x vocabulary floats, 4 bytes each): needed for
            `logprobs`.
        last_n_tokens_size: Tokens that the repetition penalties look back on.
        chat_format, chat_handler, draft_model: As in `Llama`.
        verbose: Print what llama.cpp prints, on stderr.
        log: Called with a line of progress now and then (workers that come, what is waited for); None:
            they go to stderr.
        engine: Use this engine and open no cell (for tests); `workers` to `sidecar` have no effect then.

    Raises:
        ModelError: The file cannot be used. BrokerError, CellError: as in `halo.cell.Cell.open`.
        ValueError: An option is out of range. TypeError: it is of another type.
    """

    _ctx: Any
    n_tokens: int  # length of the sequence; the engine may hold more, until the next eval

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        broker: str | None = None,
        cell: str = "halo",
        n_ctx: int = 0,
        n_batch: int = 512,
        n_threads: int | None = None,
        worker_threads: int = 1,
        worker_pace_us: int = 0,
        partials: str = "fixed",
        transport: str = "auto",
        plan: str = PLANS[0],
        hub_share: float | None = None,
        residency: str = "full",
        quality: str | float | None = None,
        sidecar: str | os.PathLike[str] | None = None,
        seed: int = llama_cpp.LLAMA_DEFAULT_SEED,
        logits_all: bool = False,
        last_n_tokens_size: int = 64,
        chat_format: str | None = None,
        chat_handler: Any = None,
        draft_model: Any = None,
        verbose: bool = False,
        log: Callable[[str], None] | None = None,
        engine: Engine | None = None,
    ) -> None:
        check_kinds(model_path=model_path, broker=broker, cell=cell, sidecar=sidecar, log=log)
        check(n_ctx=n_ctx, workers=workers, n_batch=n_batch, n_threads=n_threads, worker_threads=worker_threads)
        check(worker_pace_us=worker_pace_us, hub_share=hub_share)
        check_hub_share(plan, hub_share)
        self._opened = contextlib.ExitStack()
        self._report: Callable[[], dict[str, Any]] = dict
        self._cell_engine: CellEngine | None = None
        self._of_other_quality = False  # what the cache holds
        vocabulary = {
            "seed": seed,
            "logits_all": logits_all,
            "last_n_tokens_size": last_n_tokens_size,
            "chat_format": chat_format,
            "chat_handler": chat_handler,
            "draft_model": draft_model,
            "verbose": verbose,
        }
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            path = _model_file(model_path)
            self.n_ctx_train = 0
            """What the model was trained for, tokens; 0: not known (of an engine that was given)."""
            if engine is not None:
                self._open_vocabulary(path, frozenset(), engine.n_ctx, vocabulary)
            else:
                model, missing = _open_for_text(path, n_ctx, log)
                self.n_ctx_train = model.n_ctx_train
                self._open_vocabulary(model.path, missing, n_ctx or model.n_ctx_train, vocabulary)
                local_workers = (workers or 0) if broker is None else 0
                engine = self._open_cell(
                    model,
                    workers=workers,
                    broker=broker,
                    cell=cell,
                    n_ctx=self.n_ctx(),
                    threads=n_threads or _spare_cores(local_workers * worker_threads),
                    partials=partials,
                    transport=transport,
                    plan=plan,
                    hub_share=hub_share,
                    residency=residency,
                    quality=quality,
                    sidecar=sidecar,
                    worker_threads=worker_threads,
                    worker_pace_us=worker_pace_us,
                    log=log,
                )
            self._use(engine, n_batch)
            if self.unusable_templates:
                why = next(iter(self.unusable_templates.values()))
                _teller(log)(f"the model's chat template cannot be used ({why}); plain text, or a chat_format, works")
            undo.pop_all()

    def _open_vocabulary(self, path: Path, missing: frozenset[int], n_ctx: int, options: dict[str, Any]) -> None:
        """Initialise `Llama` with tokenizer, metadata and chat template, and none of the weights."""
        # n_batch sizes buffers that are never used here.
        super().__init__(path, missing, vocab_only=True, n_ctx=n_ctx, n_batch=1, **options)

    def _open_cell(self, model: Model, **options: Any) -> Engine:
        from halo.cell import Cell

        cell = self._opened.enter_context(Cell.open(model, **options))
        self._report = cell.report
        self._cell_engine = cell.engine
        return cell.engine

    def _use(self, engine: Engine, n_batch: int) -> None:
        """Put the engine in the place of llama.cpp's context, with buffers of the right size."""
        if engine.n_vocab != self._n_vocab:
            raise ModelError(
                f"{self.model_path} has a vocabulary of {self._n_vocab} tokens, and its output head has "
                f"{engine.n_vocab} rows: the file is damaged, or made from two models; get it again."
            )
        self._engine = engine
        self._ctx = _Context(self._ctx, engine)
        self._n_ctx = engine.n_ctx
        self.n_batch = min(n_batch, engine.n_ctx)
        self.input_ids = np.zeros(engine.n_ctx, dtype=np.intc)
        # The system gives a page of these rows its memory when it is first written to, so n_ctx x vocabulary
        # costs what is used. Without logits_all one row is kept, the last, which all that samples looks at.
        rows = engine.n_ctx if self._logits_all else 1
        self.scores = np.empty((rows, self._n_vocab), dtype=np.single)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cell, stop what was started for it, and free the model; a second call does nothing."""
        if "_opened" in self.__dict__:
            self._opened.close()
        if "_stack" in self.__dict__:
            super().close()
            # llama.cpp would read the freed model.
            self._model = self._ctx = self._engine = self.tokenizer_ = _Closed()

    def cancel(self) -> None:
        """Make a running forward pass raise, from any thread; with none running, or closed, nothing happens."""
        if not isinstance(engine := self._engine, _Closed):
            engine.cancel()

    @property
    def quality(self) -> str:
        """How much may be late, as the argument `quality` has it; what is used, where less is possible.

        Set it between two calls: it holds from the next token on. ValueError for what is no quality. A call after a
        change reads its whole prompt again, where that begins with text that was made when something could be late.
        """
        return EXACT.level if self._cell_engine is None else self._cell_engine.quality.level

    @quality.setter
    def quality(self, wish: str | float | None) -> None:
        if wish is not None:
            parse_quality(wish)
        if self._cell_engine is not None:
            before = self._cell_engine.quality
            if self._cell_engine.set_quality(wish) != before and before != EXACT:
                self._of_other_quality = True

    def report(self) -> dict[str, Any]:
        """Who computed and sent how much, per device (see `halo.cell.Cell.report`); empty without a cell."""
        return self._report()

    def prompt_tokens(self, prompt: str) -> list[int]:
        """The tokens that `create_completion` starts from: begin of sequence where there is one, text."""
        tokens: list[int] = self.tokenize(prompt.encode(), add_bos=True, special=True)
        return tokens

    def is_end(self, token: int) -> bool:
        """Whether the model ends its text with this token (end of sequence, of turn, of message)."""
        return bool(llama_cpp.llama_vocab_is_eog(self._model.vocab, token))

    def n_embd(self) -> int:
        """Length of a row of the residual stream."""
        return int(self.metadata[f"{self.metadata['general.architecture']}.embedding_length"])

    def generate(self, *args: Any, **settings: Any) -> Generator[int, Sequence[int] | None, None]:
        """As `Llama.generate`, which keeps what the cache has of a prompt; but not of another quality."""
        resets = inspect.signature(Llama.generate).bind(self, *args, **settings).arguments.get("reset", True)
        if self._of_other_quality and resets:
            self.reset()
        yield from super().generate(*args, **settings)

    @property
    def _scores(self) -> NDArray[np.single]:
        scores: NDArray[np.single] = self.scores[: self.n_tokens] if self._logits_all else self.scores
        return scores

    def reset(self) -> None:
        """Forget all tokens."""
        super().reset()
        self._engine.truncate(SLOT, 0)
        self._of_other_quality = False

    def eval(self, tokens: Sequence[int]) -> None:
        """Append `tokens` to the sequence and keep their logits: of all with `logits_all`, else of the last.

        Raises:
            RuntimeError: The context window is full.
            KeyboardInterrupt, or what the engine raises: the sequence is as after the last whole batch.
        """
        if self.n_tokens + len(tokens) > self._n_ctx:
            raise RuntimeError(
                f"The context window is full: it holds {self._n_ctx} tokens, and there would be "
                f"{self.n_tokens + len(tokens)}. Give a larger n_ctx, or a shorter prompt."
            )
        for batch in self._batches(tokens):
            self._requires_eval = True  # until the logits kept are those of the last token again
            self._engine.truncate(SLOT, self.n_tokens)  # what was rolled back, or came of a call that was interrupted
            logits = self._engine.forward(SLOT, batch, self._logits_all)
            start, end = self.n_tokens, self.n_tokens + len(batch)
            self.input_ids[start:end] = batch
            if self._logits_all:
                self.scores[start:end] = logits
            else:
                self.scores[0] = logits[-1]
            self.n_tokens = end
            self._requires_eval = False

    def _batches(self, tokens: Sequence[int] | NDArray[np.intc]) -> Iterator[NDArray[np.int32]]:
        ids = np.asarray(tokens, dtype=np.int32)
        return (ids[i : i + self.n_batch] for i in range(0, len(ids), self.n_batch))

    def sample(self, *args: Any, idx: int | None = None, **settings: Any) -> int:
        """Sample from the logits at position `idx` (None: the last); settings as in `Llama.sample`.

        Raises ContextError where there are no logits yet.
        """
        if not self.n_tokens:
            raise ContextError(
                "There is nothing to go on from: the sequence is empty. Give a prompt of at least one token; an empty "
                "text has none where the model has no begin of sequence."
            )
        # `generate` has made a sampler that remembers earlier tokens; one made here is used once, as in
        # `Llama`.
        sampler = self._sampler or self._init_sampler(*args, **settings)
        position = self.n_tokens - 1 if idx is None else idx
        if not (self._logits_all or position == self.n_tokens - 1):
            raise ValueError(f"The logits of position {position} were not kept: open the model with logits_all=True.")
        candidates = self._candidates
        candidates.copy_logits(self._scores[position if self._logits_all else 0])
        # A sampler may have let the array point to a buffer of its own, which is gone by now.
        candidates.candidates.data = candidates.candidates_data.ctypes.data_as(llama_cpp.llama_token_data_p)
        candidates.candidates.selected = -1
        llama_cpp.llama_sampler_apply(sampler.sampler, llama_cpp.byref(candidates.candidates))
        if candidates.candidates.selected < 0:
            raise RuntimeError("The sampler chose no token.")
        token = int(candidates.candidates.data[candidates.candidates.selected].id)
        sampler.accept(token)
        return token

    def save_state(self) -> Any:
        raise _needs_context("save_state")

    def load_state(self, state: Any) -> None:
        raise _needs_context("load_state")

    def set_cache(self, cache: Any) -> None:
        if cache is not None:
            raise _needs_context("set_cache")
        self.cache = None

    def embed(self, *args: Any, **kwargs: Any) -> Any:
        raise _needs_context("embed")

    def __getstate__(self) -> Any:
        raise _needs_context("pickling")


def _needs_context(what: str) -> NotImplementedError:
    return NotImplementedError(
        f"HaloLlama has no {what}: it needs llama.cpp's own context, and the caches of a cell are on its "
        "devices. A prompt that starts like the one before is not evaluated again, without any of this."
    )


def _open_for_text(path: Path, n_ctx: int, log: Callable[[str], None] | None) -> tuple[Model, frozenset[int]]:
    """Open a model whose vocabulary llama.cpp can read; say what its user should know. Also: bytes without a token."""
    from halo.model import open_model  # here: an engine that is given needs no native module
    from halo.model.vocabulary import check_vocabulary, doubt_about_vocabulary

    model = open_model(path)
    missing = check_vocabulary(model.file)
    tell = _teller(log)
    if (doubt := doubt_about_vocabulary(model.file)) is not None:
        tell(doubt)
    model.converted.tell(tell)
    if n_ctx > model.n_ctx_train:
        tell(f"the model was trained for {model.n_ctx_train} positions; text beyond that is poor")
    return model, missing


def _teller(log: Callable[[str], None] | None) -> Callable[[str], None]:
    from halo.cell.hub import log_to_stderr

    return log or log_to_stderr


def _model_file(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        from halo.model import demo_model

        return demo_model()
    if not os.fspath(path):
        raise ModelError("No model file was named: the path is empty. Give a GGUF file, or None for the demo model.")
    return Path(path)


def _spare_cores(taken: int) -> int:
    return min(max(1, len(os.sched_getaffinity(0)) - taken), int(LIMITS["n_threads"].high))
