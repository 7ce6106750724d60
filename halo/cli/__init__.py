"""The command line `halo`: one file for each command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from halo import __version__
from halo.cli import bench, devices, generate, worker
from halo.cli.console import complain
from halo.errors import HaloError

_COMMANDS = (generate, worker, devices, bench)
_DESCRIPTION = "Run one GGUF language model over several small computers."
_EXAMPLES = """\
examples:
  halo generate -p "Once upon a time" --workers 3      three workers on this machine, no set-up
  halo worker --broker mqtt://pi1 -m model.gguf        on each further device
  halo generate --broker mqtt://pi1 -m model.gguf -p "Once upon a time"

Each command explains itself: halo generate --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    return execute(lambda: args.run(args))


def execute(work: Callable[[], int]) -> int:
    """Do a command's work, and turn every way in which it may end into an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = work()
        sys.stdout.flush()
        return code
    except HaloError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    halo = argparse.ArgumentParser(
        prog="halo",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    halo.add_argument("--version", action="version", version=f"halo {__version__}")
    commands = halo.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return halo


def _terminate(number: int, frame: FrameType | None) -> None:
    """End like a Ctrl-C does, in order: processes stopped, documents cleared."""
    raise SystemExit(128 + number)
