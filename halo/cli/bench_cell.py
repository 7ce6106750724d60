"""`halo bench sync` and `halo bench generate`: a cell measured as a whole, over any network or a bad one made here."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from halo.cli.console import patience, say
from halo.cli.options import (
    LOCAL,
    PLAIN,
    Commands,
    add_cell,
    add_model,
    add_pace,
    add_pace_group,
    add_partials,
    add_sharing,
    add_transport,
    broker_of,
    command,
    positive,
    within,
)
from halo.errors import HaloError
from halo.exchange.lanes import LANES

if TYPE_CHECKING:
    from benchmarks.lab import Conditions
    from halo.bench.cell import Setup
    from halo.cell.native import OpenModel

_SYNC = "measure syncs: one message to every worker and one answer from each, nothing computed"
_SYNC_EXAMPLES = """\
  halo bench sync --workers 4                     four workers on this machine
  halo bench sync --workers 3 --broker mqtt://pi1 --json
  sudo halo bench sync --workers 4 --delay 2 --loss 5
                                                  in the laboratory: 2 ms one way, and 5% of the frames lost

A token is 44 syncs, as in TinyLlama 1.1B: requests of 2048 values in Q8_0, answers in --partials.
"""
_GENERATE = "measure tokens of a model, computed by this device and its workers"
_GENERATE_EXAMPLES = """\
  halo bench generate --workers 3 -m model.gguf
  sudo halo bench generate --workers 3 --delay 2 --loss 5 --burst 4
  sudo halo bench generate --workers 3 --delay 0 --loss 5 --prompt-tokens 256 --json
"""
_LAB = """
With one of the laboratory's options, the hub and each worker are hosts of their own on this machine (needs root, and
apt install iproute2 gcc mosquitto). With --loss, stretches without and with loss alternate within the run, --tokens
tokens of each, and the ratio is that of their means. docs/lab.md tells what the laboratory does, and what it does not.
"""


def add(parts: Commands[argparse.ArgumentParser]) -> None:
    sync = command(parts, "sync", _SYNC, _SYNC_EXAMPLES + _LAB, _run_sync)
    generate = command(parts, "generate", _GENERATE, _GENERATE_EXAMPLES + _LAB, _run_generate)
    add_partials(sync, default="f16")
    sync.add_argument("--reply", type=positive, metavar="BYTES", help="of an answer (default: as --partials says)")
    add_transport(sync, measuring=True)
    sync.add_argument(
        "--echo",
        action="store_true",
        help="alternate with bare datagrams of the same sizes (laboratory)",
    )
    add_sharing(generate, measuring=True)
    add_pace(generate, "the --pace of the workers")
    add_pace_group(generate, "the --pace-group of the workers")
    add_pace_group(generate, "the same of this device's own groups", "--hub-pace-group")
    for parser, least in ((sync, 1), (generate, 0)):
        add_cell(parser)
        add_model(parser)
        workers = within("workers", least=least)
        parser.add_argument("--workers", type=workers, required=True, metavar="N", help="how many workers")
        parser.add_argument(
            "--tokens", type=positive, metavar="N", help="tokens a figure (default: 50; with loss: 200)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--busy",
            action="store_true",
            help="compare with tokens beside which a Python thread computes all the time (as --loss compares)",
        )
        _add_lab(parser)
    generate.add_argument(
        "--prompt-tokens",
        type=positive,
        default=16,
        metavar="N",
        help="length of the prompt that begins each stretch, which is timed too (default: 16)",
    )
    threads = within("n_threads")
    generate.add_argument(
        "-t", "--threads", type=threads, default=1, metavar="N", help="threads of the hub (default: 1)"
    )
    generate.add_argument("--worker-threads", type=threads, default=1, metavar="N", help="of each worker (default: 1)")


def _add_lab(parser: argparse.ArgumentParser) -> None:
    lab = parser.add_argument_group("laboratory", "a bad network on this machine, alike on every link both ways")
    percent = within("percent")
    lab.add_argument("--delay", type=within("delay_ms"), metavar="MS", help="what every frame takes, one way")
    lab.add_argument("--loss", type=percent, metavar="PERCENT", help="of the frames (with --fade: of the time)")
    lab.add_argument("--burst", type=within("frames"), metavar="FRAMES", help="frames are lost in runs of this mean")
    lab.add_argument(
        "--fade", type=within("fade_ms"), metavar="MS", help="each worker's link is dead for times of this mean"
    )
    lab.add_argument(
        "--rate", type=within("rate_kbit"), metavar="KBIT", help="all share one half-duplex medium, kbit/s"
    )
    lab.add_argument(
        "--frame-us", type=within("frame_us"), metavar="US", help="what each frame costs the medium on top"
    )
    lab.add_argument("--duplicate", type=percent, metavar="PERCENT", help="of the frames arrive twice")
    lab.add_argument("--reorder", type=percent, metavar="PERCENT", help="of the frames are overtaken by later ones")
    lab.add_argument("--ipv6", action="store_true", help="the hosts talk IPv6")
    lab.add_argument("--congestion", metavar="NAME", help="TCP's congestion control on the hosts (default: cubic)")


def _conditions(args: argparse.Namespace) -> Conditions | None:
    """What the options ask of the laboratory; None where none of them is given."""
    given = (args.delay, args.loss, args.burst, args.fade, args.rate, args.frame_us, args.duplicate, args.reorder)
    if not args.ipv6 and all(option is None for option in (*given, args.congestion)):
        return None
    from halo.bench.lab import lab_errors, load_lab

    if args.broker not in (None, LOCAL):
        raise HaloError("The laboratory has a broker of its own: leave out --broker, or the laboratory's options.")
    delay_ms, loss, burst, fade_ms, rate, frame_us, duplicate, reorder = (option or 0.0 for option in given)
    with lab_errors():
        conditions: Conditions = load_lab().Conditions(
            delay_us=1000 * delay_ms,
            loss=loss / 100,
            burst=burst,
            fade_ms=fade_ms,
            duplicate=duplicate / 100,
            reorder=reorder / 100,
            rate_kbit=rate,
            frame_us=frame_us,
        )
    return conditions


def _setup(args: argparse.Namespace, model: OpenModel, n_ctx: int, **options: Any) -> Setup:
    from halo.bench.cell import Setup

    conditions = _conditions(args)
    return Setup(
        model=model,
        workers=args.workers,
        n_ctx=n_ctx,
        log=say,
        broker=broker_of(args) if conditions is None else None,
        cell=args.cell,
        conditions=conditions,
        congestion=args.congestion or "cubic",
        ip=6 if args.ipv6 else 4,
        busy=args.busy,
        transport="mqtt" if args.transport == PLAIN else args.transport,
        lanes=1 if args.transport == PLAIN else LANES,
        **options,
    )


def _tokens(args: argparse.Namespace) -> int:
    return int(args.tokens or (200 if args.loss or args.busy else 50))


def _run_sync(args: argparse.Namespace) -> int:
    from halo.bench.cell import open_cell
    from halo.bench.sync import bench_sync
    from halo.model import demo_model, open_model

    setup = _setup(args, open_model(args.model or demo_model()), 256)
    with patience("measuring"), open_cell(setup) as bench:
        found = bench_sync(bench, args.workers, _tokens(args), args.partials, args.reply, with_echo=args.echo)
        _print(args, setup, bench.network, found)
    return 0


def _run_generate(args: argparse.Namespace) -> int:
    from halo.bench.cell import open_cell
    from halo.bench.generate import bench_generate, positions
    from halo.model import demo_model, open_model

    model = open_model(args.model or demo_model())
    setup = _setup(
        args,
        model,
        positions(args.prompt_tokens),
        partials=args.partials,
        plan=args.plan,
        hub_share=args.hub_share,
        residency=args.residency,
        threads=args.threads,
        worker_threads=args.worker_threads,
        worker_pace_us=args.pace,
        worker_pace_group_us=args.pace_group,
        hub_pace_group_us=args.hub_pace_group,
    )
    with patience("measuring"), open_cell(setup) as bench:
        found = bench_generate(bench, model.spec.vocab, _tokens(args), args.prompt_tokens)
        _print(args, setup, bench.network, found)
    return 0


def _print(args: argparse.Namespace, setup: Setup, network: str, found: dict[str, Any]) -> None:
    from halo.bench.segments import describe, lines

    what = {"workers": setup.workers, "transport": args.transport, "partials": args.partials, "network": network}
    if args.json:
        print(json.dumps({**what, "conditions": describe(setup.conditions), **found}))
        return
    print(f"{setup.workers} workers, {args.transport}, {args.partials} partials, {network}: milliseconds a token")
    print("\n".join(lines(found)))
