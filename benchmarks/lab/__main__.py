"""The laboratory from the command line: `python -m benchmarks.lab --help`."""

from __future__ import annotations

import argparse
import os
import sys

from .conditions import Conditions, LabError
from .echo import echo, line
from .laboratory import Lab, address
from .named import NamedLab

_EXAMPLES = """\
examples (as root):
  python -m benchmarks.lab up --hosts 3 --delay 2
  python -m benchmarks.lab run 0 mosquitto -c mosquitto.conf &
  python -m benchmarks.lab run 1 halo worker --broker mqtt://10.91.0.1 --name pi1 &
  python -m benchmarks.lab link --delay 2 --loss 5 --burst 4       all conditions anew; they hold at once
  python -m benchmarks.lab link --host 2 --loss 100                only host 2's link, which is cut
  python -m benchmarks.lab show
  python -m benchmarks.lab down
  python -m benchmarks.lab echo --workers 4 --delay 2              a laboratory of its own, for this once

Host I has the addresses 10.91.0.<I+1> and fd91::<I+1, hexadecimal>; host 0 is meant for the hub. docs/lab.md says more.
"""


def main() -> int:
    """Run a command; returns its exit code."""
    args = _parser().parse_args()
    try:
        args.run(args)
    except (LabError, FileExistsError) as error:
        print(f"lab: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lab",
        description="Hosts with bad links between them, as network namespaces on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    up = commands.add_parser("up", help="make a laboratory, which stays until it is taken down")
    up.add_argument("--hosts", type=int, default=5, metavar="N", help="hosts 0 to N - 1 (default: 5)")
    up.add_argument("--congestion", default="cubic", metavar="NAME", help="TCP's congestion control (default: cubic)")
    up.set_defaults(run=_up)
    link = commands.add_parser("link", help="change the network")
    link.add_argument("--host", type=int, metavar="N", help="only that worker's link (default: all)")
    link.set_defaults(run=_link)
    show = commands.add_parser("show", help="what the network does, and what it has done")
    show.set_defaults(run=_show)
    run = commands.add_parser("run", help="run a program on a host")
    run.add_argument("host", type=int, help="its number")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="PROGRAM ...", help="the program and its arguments")
    run.set_defaults(run=_run)
    down = commands.add_parser("down", help="take the laboratory down")
    down.set_defaults(run=_down)
    echoes = commands.add_parser("echo", help="how long datagrams take, without anything that repairs")
    echoes.add_argument("--workers", type=int, default=4, metavar="N", help="how many answer (default: 4)")
    echoes.add_argument("--rounds", type=int, default=1000, metavar="N", help="how many rounds (default: 1000)")
    echoes.add_argument("--request", type=int, default=2240, metavar="BYTES", help="default: 2240")
    echoes.add_argument("--reply", type=int, default=4160, metavar="BYTES", help="default: 4160")
    echoes.set_defaults(run=_echo)
    for one in (up, link, echoes):
        _add_conditions(one)
    for one in (up, link, show, run, down):
        one.add_argument("--name", default="lab", help="of several laboratories side by side (default: lab)")
    return parser


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    for name, unit, what in (
        ("--delay", "MS", "what every frame takes, one way"),
        ("--loss", "PERCENT", "of the frames, on each link both ways; with --fade: of the time"),
        ("--burst", "FRAMES", "frames are lost in runs of this mean"),
        ("--fade", "MS", "each worker's link is dead for times of this mean"),
        ("--rate", "KBIT", "all hosts share one half-duplex medium, kbit/s"),
        ("--frame-us", "US", "what each frame costs the medium on top"),
        ("--duplicate", "PERCENT", "of the frames arrive twice"),
        ("--reorder", "PERCENT", "of the frames are overtaken by later ones"),
    ):
        parser.add_argument(name, type=float, default=0.0, metavar=unit, help=what)


def _conditions(args: argparse.Namespace) -> Conditions:
    return Conditions(
        delay_us=1000 * args.delay,
        loss=args.loss / 100,
        burst=args.burst,
        fade_ms=args.fade,
        duplicate=args.duplicate / 100,
        reorder=args.reorder / 100,
        rate_kbit=args.rate,
        frame_us=args.frame_us,
    )


def _up(args: argparse.Namespace) -> None:
    lab = NamedLab.make(args.name, args.hosts, _conditions(args), args.congestion)
    for host in range(lab.hosts):
        print(f"host {host}: {address(host)}  {address(host, 6)}")


def _link(args: argparse.Namespace) -> None:
    NamedLab(args.name).set(_conditions(args), args.host)


def _show(args: argparse.Namespace) -> None:
    lab = NamedLab(args.name)
    print(lab.conditions())
    for host in range(1, lab.hosts):
        if lab.conditions(host) != lab.conditions():
            print(f"host {host} alone: {lab.conditions(host)}")
    print(f"{'host':<5}{'':<6}{'frames':>10}{'bytes':>13}{'lost':>9}{'twice':>8}{'late':>8}{'dropped':>9}")
    for host in range(1, lab.hosts):
        for direction, c in zip(("to", "from"), lab.counters(host), strict=True):
            fates = f"{c.lost:>9}{c.duplicated:>8}{c.reordered:>8}{c.dropped:>9}"
            print(f"{host:<5}{direction:<6}{c.frames:>10}{c.bytes:>13}{fates}")


def _run(args: argparse.Namespace) -> None:
    command = NamedLab(args.name).command(args.host, *args.words)
    if not args.words:
        raise LabError("There is no program to run: name it after the host, as in: run 1 ip addr")
    sys.stdout.flush()
    os.execv(command[0], command)


def _down(args: argparse.Namespace) -> None:
    NamedLab(args.name).take_down()


def _echo(args: argparse.Namespace) -> None:
    conditions = _conditions(args)
    with Lab(args.workers + 1, conditions, kernel=conditions.only_loss) as lab:
        print(line(echo(lab, args.request, args.reply, args.rounds), args.rounds))


if __name__ == "__main__":
    sys.exit(main())
