"""Options that several commands share, so that they have one name and one meaning."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from halo.cell.memory import Budget, parse_size
from halo.errors import BrokerError, CellError
from halo.limits import LIMITS, PARTIALS, PLANS, RESIDENCIES, TRANSPORTS
from halo.quality import parse_quality

Run = Callable[[argparse.Namespace], int]
Commands = argparse._SubParsersAction  # argparse gives this type no public name
VARIABLE = "HALO_BROKER"
LOCAL = "local"
PLAIN = "mqtt-plain"


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
        help="mqtt://[user:password@]host[:1883], or mqtts:// for TLS (default: the variable HALO_BROKER); "
        "'local': none, whatever that variable says",
    )
    parser.add_argument("--cell", metavar="NAME", default="halo", help="cell at the broker (default: halo)")


def broker_of(args: argparse.Namespace) -> str | None:
    """The broker's URL; None with `--broker local` and where nothing names one."""
    url: str = args.broker or os.environ.get(VARIABLE) or LOCAL
    return None if url == LOCAL else url


def by_variable(args: argparse.Namespace) -> bool:
    """Whether the variable HALO_BROKER, and no option, has chosen the broker."""
    return "broker" in args and not args.broker and broker_of(args) is not None


def named_variable(args: argparse.Namespace, error: BrokerError | CellError) -> BrokerError | CellError:
    """The same error, which also names the variable where that has chosen the broker."""
    if not by_variable(args):
        return error
    kind = BrokerError if isinstance(error, BrokerError) else CellError
    return kind(f"{error} (The broker comes from the variable {VARIABLE}; --broker {LOCAL} goes without it.)")


def need_broker(args: argparse.Namespace) -> str:
    """The broker's URL, or a BrokerError that says how to give one."""
    if url := broker_of(args):
        return url
    raise BrokerError(
        "No broker was named, so there is no cell to join. Give its URL, as in "
        "--broker mqtt://raspberrypi.local, or set the variable HALO_BROKER. "
        "(mosquitto is one: sudo apt install mosquitto.)"
    )


def add_model(parser: argparse.ArgumentParser, default: str = "the demo model") -> None:
    """-m."""
    parser.add_argument("-m", "--model", type=named, metavar="FILE", help=f"GGUF file (default: {default})")


def named(text: str) -> str:
    """The type of an argument that names a file."""
    if not text.strip():
        raise argparse.ArgumentTypeError("no file was named: is a variable in the command empty?")
    return text


def add_pace(parser: argparse.ArgumentParser, what: str) -> None:
    """--pace."""
    parser.add_argument("--pace", type=within("worker_pace_us"), default=0, metavar="US", help=what)


def add_pace_group(parser: argparse.ArgumentParser, what: str, option: str = "--pace-group") -> None:
    """--pace-group, or the like."""
    parser.add_argument(option, type=within("worker_pace_group_us"), default=0, metavar="US", help=what)


def add_sharing(parser: argparse.ArgumentParser, *, measuring: bool = False) -> None:
    """--partials, --transport, --plan, --hub-share and --residency."""
    add_partials(parser)
    add_transport(parser, measuring=measuring)
    parser.add_argument(
        "--plan",
        choices=PLANS,
        default=PLANS[0],
        help="who computes what; auto: so that all finish together; even: the workers get equal shares (auto)",
    )
    parser.add_argument(
        "--hub-share",
        type=within("hub_share"),
        metavar="X",
        help="with --plan even: the part of every layer that this device computes, from 0 to 1 (default: as much as a "
        "worker)",
    )
    parser.add_argument(
        "--residency",
        choices=RESIDENCIES,
        default=RESIDENCIES[0],
        help="what the workers hold in memory; full: the whole model; shards: each a part of every layer, and this "
        "device reads what is missing from its file (full)",
    )


def add_quality(parser: argparse.ArgumentParser) -> None:
    """--quality and --sidecar."""
    parser.add_argument(
        "--quality",
        type=quality,
        metavar="Q",
        help="how much of the MLP may be late where a worker cannot be relied on; exact: nothing, and the same text "
        "whatever the network does; balanced: the 25%% that matter least for the token; fast: 50%%; or a share from 0 "
        "to 1; late:SHARE, an experiment: that share always is (default: balanced with a sidecar, else exact)",
    )
    parser.add_argument(
        "--sidecar",
        type=Path,
        metavar="FILE",
        help="what halo calibrate has learned of the model (default: MODEL.halo.gguf beside it)",
    )


def quality(text: str) -> str:
    """The type of --quality."""
    try:
        parse_quality(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_transport(parser: argparse.ArgumentParser, *, measuring: bool = False) -> None:
    """--transport; who is `measuring` has one more, to compare with."""
    parser.add_argument(
        "--transport",
        choices=(*TRANSPORTS, PLAIN) if measuring else TRANSPORTS,
        default=TRANSPORTS[0],
        help="what carries requests and partials; auto: UDP datagrams to the workers that they reach, MQTT to the "
        "others; udp: datagrams or an error"
        + (f"; {PLAIN}: strict TCP, one connection" if measuring else "")
        + " (auto)",
    )


def add_partials(parser: argparse.ArgumentParser, default: str = PARTIALS[0]) -> None:
    """--partials."""
    parser.add_argument(
        "--partials",
        choices=PARTIALS,
        default=default,
        help=f"how partial sums travel: fixed: the same text whoever computes what; f16: half the bytes ({default})",
    )


def within(name: str, least: int | None = None) -> Callable[[str], float]:
    """The type of an argument whose range is in `LIMITS`; it begins at `least` where that is given."""
    limit = LIMITS[name] if least is None else replace(LIMITS[name], low=least)

    def number(text: str) -> float:
        try:
            value = int(text) if limit.whole else float(text)
        except ValueError:
            value = float("nan")
        if not limit.holds(value):
            raise argparse.ArgumentTypeError(f"must be {limit}")
        return value

    return number


def amount(text: str) -> int:
    """An argument that is an amount of memory, in bytes."""
    try:
        size = parse_size(text)
        Budget(size)
        return size
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """An argument that is 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
