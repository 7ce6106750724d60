"""Files that are whole or not there, and files without a name."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from halo.errors import OutputError

_TRY = {
    errno.ENOSPC: "Make room there (df -h shows how much there is), or choose another place.",
    errno.EDQUOT: "Make room there (your quota is used up), or choose another place.",
    errno.EFBIG: "The file system or a limit (ulimit -f) allows no such size: choose another place.",
    errno.EROFS: "Nothing can be written to that file system: choose another place.",
    errno.EACCES: "Choose a place that you may write to.",
    errno.EPERM: "Choose a place that you may write to.",
    errno.ENOENT: "Make its folder first (mkdir -p), or choose another place.",
    errno.EISDIR: "Give the name of a file, and not of a folder.",
}


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to: it becomes `path` at the end, and is removed where something goes wrong; a
    file that was there stays until then. Raises OutputError where the system does not let it be written."""
    temporary = _beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp{os.getpid()}")


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error of a file that cannot be written, with what to try."""
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}. "
        + _TRY.get(error.errno or 0, "Choose another place, or look at the system's log (dmesg).")
    )


def check_writable(path: Path) -> None:
    """Raises OutputError where `whole` could not even begin: asked before work that takes long."""
    if path.is_dir():
        raise cannot_write(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if path.exists() and not path.is_file():  # a device would be replaced
        raise OutputError(f"{path} cannot be written: it exists and is no file. Give another name.")
    probe = _beside(path)
    try:
        probe.write_bytes(bytes(4096))
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def nameless() -> BinaryIO:
    """An empty file that is in memory, and gone when it is closed: it needs no folder that can be written to."""
    return cast(BinaryIO, os.fdopen(os.memfd_create("halo"), "w+b"))
