"""Errors that the system raises, and not HALO, as sentences: what is wrong, and what to try."""

from __future__ import annotations

import errno
import resource

_NO_MEMORY = "There is not enough memory: try a smaller context (-c), or a smaller model."
_UNWRITABLE = (errno.ENOSPC, errno.EBADF, errno.EIO)  # full, closed, or a terminal that is gone


def plainly(error: Exception) -> str | None:
    """The sentences; None for an error that is a bug of HALO's, which only a traceback explains."""
    match error:
        case MemoryError():
            return _NO_MEMORY
        case OSError():
            return _of_the_system(error)
        case ImportError():
            return (
                f"A part of HALO cannot be loaded: {_cause(error)}. Is there memory for it (ulimit -v), and may enough "
                "files be open (ulimit -n)? If so, install HALO again."
            )
        case RuntimeError() if "start new thread" in str(error):
            return "The system gives HALO no more threads: close other programs, or raise the limits (ulimit -u, -v)."
        case RuntimeError() if type(error).__module__ != "halo._native":
            return None
    return str(error) or type(error).__name__


def _cause(error: BaseException) -> str:
    """The first line of what it all began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def _of_the_system(error: OSError) -> str:
    if error.errno in _UNWRITABLE and not error.filename:
        return f"The output cannot be written: {error.strerror}."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"Too many open files: HALO may have {limit}. Allow more, as in `ulimit -n 1024`, or take fewer workers."
    if error.errno == errno.ENOMEM:
        return _NO_MEMORY
    if error.errno == errno.EAGAIN:
        return "The system starts no more processes for this user (ulimit -u): end some, or take fewer workers."
    if error.strerror:
        return f"{error.filename or 'The system refuses'}: {error.strerror}."
    return str(error) or type(error).__name__
