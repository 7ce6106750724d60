"""`halo bench`: measures a part of HALO; what is measured, and how, is in `halo.bench`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from halo.cli import bench_cell
from halo.cli.console import patience
from halo.cli.options import Commands, add_model, command, positive

_KERNELS = "measure this machine's kernels, next to llama.cpp's where it is installed"
_KERNELS_EXAMPLES = """\
  halo bench kernels
  HALO_ISA=avx2 halo bench kernels --json         another variant than the best

One thread, 5632 x 2048 weights: from memory, from the cache, and with 32 rows of a prompt.
A ratio above 1 means that HALO is the faster one.
"""
_MODEL = "measure whole models on this device, next to llama.cpp where it is installed"
_MODEL_EXAMPLES = """\
  halo bench model -m model.gguf                  time per token and prompt speed, 1 and 2 threads
  halo bench model -m model.gguf --context 1900 --json
  halo bench model -m model.gguf --processes 4    also four processes at once
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="measure a part of HALO")
    parts = parser.add_subparsers(title="what to measure", metavar="PART", required=True)
    bench_cell.add(parts)
    kernels = command(parts, "kernels", _KERNELS, _KERNELS_EXAMPLES, _kernels)
    model = command(parts, "model", _MODEL, _MODEL_EXAMPLES, _model)
    add_model(model)
    model.add_argument("-t", "--threads", type=positive, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    model.add_argument("--context", type=positive, metavar="N", help="also a token after so many positions")
    model.add_argument("--processes", type=positive, metavar="N", help="also so many processes at once")
    for one, rounds in ((kernels, 15), (model, 5)):
        one.add_argument("--rounds", type=positive, default=rounds, metavar="N", help=f"medians of (default: {rounds})")
    for part in (kernels, model):
        part.add_argument("--json", action="store_true", help="print one JSON object")


def _kernels(args: argparse.Namespace) -> int:
    from halo.bench import bench_kernels, print_kernels

    with patience("measuring"):
        report = bench_kernels(rounds=args.rounds)
    if args.json:
        print(json.dumps(report))
    else:
        print_kernels(report)
    return 0


def _model(args: argparse.Namespace) -> int:
    from halo.bench import bench_model, print_model
    from halo.model import demo_model

    with patience("measuring"):
        path = Path(args.model or demo_model())
        report = bench_model(path, args.threads, args.rounds, args.context or 0, args.processes or 0)
    if args.json:
        print(json.dumps(report))
    else:
        print_model(report)
    return 0
