"""The command line `halo`: one file for each command."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from halo import __version__
from halo.cli import streams
from halo.cli.console import complain
from halo.cli.options import named_variable
from halo.cli.plainly import plainly
from halo.errors import BrokerError, CellError, HaloError
from halo.words import visible

_DESCRIPTION = "Run one GGUF language model over several small computers."
_BUS_ERROR = (
    "\nhalo: error: A file that is mapped into memory, most likely the model, has become shorter while it was read, or "
    "its disk fails. Copy the model again, and replace a model that is in use by renaming the new file (mv), not by "
    "writing over it (cp).\n"
)
_EXAMPLES = """\
examples:
  halo generate -p "Once upon a time" --workers 3      three workers on this machine, no set-up
  halo worker --broker mqtt://pi1 -m model.gguf        on each further device
  halo generate --broker mqtt://pi1 -m model.gguf -p "Once upon a time"

Each command explains itself: halo generate --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    return execute(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    with contextlib.suppress(ImportError):  # without the native module no file is mapped
        from halo import _native

        _native.explain_bus_errors(_BUS_ERROR)
    try:
        code: int = args.run(args)
    except (BrokerError, CellError) as error:
        raise named_variable(args, error) from None
    return code


def execute(work: Callable[[], int]) -> int:
    """Do a command's work, and turn every way in which it may end into an exit code."""
    try:
        streams.prepare()
        for number in signals_to_end():
            signal.signal(number, _terminate)
        return _flushed(work)
    except HaloError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        _drop_output()
        return 141
    except (ValueError, MemoryError, OSError, ImportError, RuntimeError) as error:
        if isinstance(error, OSError):
            _drop_output()
        said = plainly(error)
        if said is None:
            raise
        complain(said)
        return 1


def signals_to_end() -> list[signal.Signals]:
    """Those that ask us to end in order, but for Ctrl-C: of nohup's SIGHUP we are to hear nothing."""
    return [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]


class _Terminated(SystemExit):
    """By a signal, which the exit code tells."""


def _flushed(work: Callable[[], int]) -> int:
    """Write the output while its errors can still be told, also that of --help, which ends in SystemExit."""
    try:
        return work()
    except _Terminated:
        try:
            sys.stdout.flush()
        except OSError:  # the terminal is gone, which is why we end
            _drop_output()
        raise
    finally:
        sys.stdout.flush()


def _drop_output() -> None:
    """What could not be written is not tried again at exit."""
    with contextlib.suppress(OSError):  # no more files may be open
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Also of each command: argparse makes its parsers of the same kind."""

    _given: Sequence[str] = ()
    """What was parsed last."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # typed by overloads
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(visible(message) + self._advice(message))

    def _advice(self, message: str) -> str:
        """For `-p -abc`, where argparse takes the value for an option."""
        if (found := re.fullmatch(r"argument (\S+): expected one argument", message)) is None:
            return ""
        *_, long = names = found[1].split("/")
        for name, value in itertools.pairwise(self._given):
            if name in names and value[:1] == "-" and value.partition("=")[0] not in self._option_string_actions:
                return f" (one that begins with '-' is given with '=', as in {long}='-...')"
        return ""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    # Here, and not at import, so that a Ctrl-C in the second that this takes on a Pi ends as any other.
    from halo.cli import bench, calibrate, devices, doctor, generate, perplexity, worker

    halo = _Parser(
        prog="halo",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    halo.add_argument("--version", action="version", version=f"halo {__version__}")
    commands = halo.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (generate, worker, devices, doctor, calibrate, perplexity, bench):
        command.add(commands)
    return halo


def _terminate(number: int, frame: FrameType | None) -> None:
    """End like a Ctrl-C does, in order: processes stopped, documents cleared; once, however often we are told."""
    for each in signals_to_end():
        signal.signal(each, lambda number, frame: None)  # Python complains of what comes while SIG_IGN is being set
    raise _Terminated(128 + number)
