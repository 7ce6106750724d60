"""Options that several commands share, so that they have one name and one meaning."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from halo.errors import BrokerError

Run = Callable[[argparse.Namespace], int]
Commands = argparse._SubParsersAction  # argparse gives this type no public name


def command(
    commands: Commands[argparse.ArgumentParser], name: str, what: str, examples: str, run: Run
) -> argparse.ArgumentParser:
    """A sub-command whose help ends with examples."""
    parser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_cell(parser: argparse.ArgumentParser) -> None:
    """--broker and --cell."""
    parser.add_argument(
        "--broker",
        metavar="URL",
        default=os.environ.get("HALO_BROKER") or None,
        help="mqtt://[user:password@]host[:1883], or mqtts:// for TLS (default: the variable HALO_BROKER)",
    )
    parser.add_argument("--cell", metavar="NAME", default="halo", help="cell at the broker (default: halo)")


def need_broker(args: argparse.Namespace) -> str:
    """The broker's URL, or a BrokerError that says how to give one."""
    if args.broker:
        return str(args.broker)
    raise BrokerError(
        "No broker was named, so there is no cell to join. Give its URL, as in "
        "--broker mqtt://raspberrypi.local, or set the variable HALO_BROKER. "
        "(mosquitto is one: sudo apt install mosquitto.)"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """-m."""
    parser.add_argument("-m", "--model", metavar="FILE", help="GGUF file (default: the demo model)")


def count(text: str) -> int:
    """An argument that is 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def positive(text: str) -> int:
    """An argument that is 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
