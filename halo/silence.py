"""llama.cpp without a word on stderr, and with everybody's stdout and stderr left as they are.

llama-cpp-python silences llama.cpp by pointing the process's file descriptors 1 and 2 at /dev/null for a while.
Two threads that do so at once can leave them there, and what other threads print meanwhile is lost. Here the
log callback says nothing for a thread that asks for silence, and that thread swaps no descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import llama_cpp
from llama_cpp import _internals, _logger
from llama_cpp import llama as _llama

_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_here = threading.local()
_swap_descriptors = _llama.suppress_stdout_stderr


@contextlib.contextmanager
def silence(verbose: bool = False) -> Iterator[list[str]]:
    """In this thread: llama.cpp logs nothing, and llama-cpp-python leaves the file descriptors alone. But `verbose`.

    The list that is given has the errors that llama.cpp logs meanwhile, or would.
    """
    errors: list[str] = []
    _here.silent, _here.errors = not verbose, errors
    try:
        yield errors
    finally:
        _here.silent, _here.errors = False, []


def _is_silent() -> bool:
    return getattr(_here, "silent", False)


def _suppress(disable: bool = True) -> Any:
    """In the place of llama-cpp-python's `suppress_stdout_stderr`; an ordinary `Llama` still gets that."""
    return contextlib.nullcontext() if _is_silent() else _swap_descriptors(disable)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # llama_cpp carries no types
def _log(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    if level == _ERROR:
        getattr(_here, "errors", []).append(text.decode("utf-8", "replace"))
    if not _is_silent():
        _logger.llama_log_callback(level, text, user_data)


_llama.suppress_stdout_stderr = _internals.suppress_stdout_stderr = _suppress
llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))
