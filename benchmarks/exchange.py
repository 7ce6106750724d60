"""Every figure of the exchange under loss that docs/benchmarks.md claims, as a table: run as root, on a quiet machine.

    sudo .venv/bin/python benchmarks/exchange.py [--tokens 200] [--only TEXT] [--model TINYLLAMA.gguf]

Each row is one run of `halo bench`, whose command is printed with it; stretches without and with loss alternate within
the run, and ratios are of the means. `--model` adds the rows that compute (benchmarks/make_model.py writes a model).
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Found = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One row: what is measured, how, and what it should be at most."""

    what: str
    command: str
    value: Callable[[Found], float]
    bar: float
    unit: str = "x"


def _ratio(found: Found) -> float:
    return float(found["ratio"])


_LAB = "sync --workers 4 --delay 2"
_UDP = f"{_LAB} --transport udp"
SYNC = [
    Figure("UDP, 0%: syncs against bare echoes", f"{_UDP} --echo", lambda f: float(f["to_echo"]), 1.06),
    Figure("hub CPU a sync, sealed, f16", _UDP, lambda f: 1000 * f["hub_cpu_ms"] / 44, 250, " us"),
    Figure("payload overhead at 0%", _UDP, lambda f: float(f["payload_overhead"]), 1.4),
    Figure("UDP strict, 1%", f"{_UDP} --loss 1", _ratio, 1.02),
    Figure("UDP strict, 5%", f"{_UDP} --loss 5", _ratio, 1.04),
    Figure("payload overhead at 5%", f"{_UDP} --loss 5", lambda f: float(f["payload_overhead"]), 1.8),
    Figure("UDP strict, 10%", f"{_UDP} --loss 10", _ratio, 1.10),
    Figure("UDP strict, 5% in bursts of 4 frames", f"{_UDP} --loss 5 --burst 4", _ratio, 1.15),
    Figure("UDP strict, fixed replies, 5%", f"{_UDP} --loss 5 --partials fixed", _ratio, 1.06),
    Figure(
        "UDP strict, fades of 20 ms, 5% of the time: p99 of a sync",
        f"{_UDP} --loss 5 --fade 20",
        lambda f: float(f["sync_p99_ms"]),
        60,
        " ms",
    ),
    Figure("a busy Python thread beside it", f"{_UDP} --busy", _ratio, 1.1),
    Figure("MQTT, 2.2 kB both ways, 5%", f"{_LAB} --transport mqtt --reply 2176 --loss 5", _ratio, 1.7),
    Figure("MQTT, 2.2 kB both ways, 10%", f"{_LAB} --transport mqtt --reply 2176 --loss 10", _ratio, 3.0),
]
_CELL = "generate --workers 3 --plan even --delay 0 --partials f16 --transport udp -m {model}"
COMPUTE = [
    Figure("TinyLlama shape, hub + 3 workers, 5%", f"{_CELL} --loss 5", _ratio, 1.10),
    Figure("TinyLlama shape, hub + 3 workers, 10%", f"{_CELL} --loss 10", _ratio, 1.25),
]
_ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=200, help="of each case of each run (default: 200)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name or command has this text")
    parser.add_argument("--model", metavar="FILE", help="a model of TinyLlama's shape, for the rows that compute")
    args = parser.parse_args()
    figures = [*SYNC, *(COMPUTE if args.model else [])]
    done: dict[str, Found] = {}
    print("| what | figure | bar | command |\n| --- | --- | --- | --- |")
    for figure in figures:
        command = f"halo bench {figure.command} --tokens {args.tokens}".format(model=args.model)
        if args.only not in figure.what + command:
            continue
        if command not in done:
            done[command] = _run(command)
        value = figure.value(done[command])
        print(f"| {figure.what} | {value:.3g}{figure.unit} | {figure.bar:g}{figure.unit} | `{command}` |", flush=True)
    if not args.only:
        _paper(done, args.tokens)
    if args.model:
        _against_llama_cpp(args.model)
        _prompts(args.model)
    return 0


def _paper(done: dict[str, Found], tokens: int) -> None:
    """The paper's comparison: strict TCP against datagrams, both at 5%."""
    udp = done[f"halo bench {_UDP} --loss 5 --tokens {tokens}"]
    command = f"halo bench {_LAB} --transport mqtt-plain --loss 5 --tokens {min(tokens, 40)}"
    plain = _run(command)
    ratio = plain["mean_ms"] / udp["mean_ms"]
    print(f"| strict TCP against UDP, both at 5% | {ratio:.2f}x | at least 5x | `{command}` |")


def _against_llama_cpp(model: str) -> None:
    """Tokens of the cell next to llama.cpp's with both cores; the two take turns."""
    cell = f"halo bench {_CELL} --tokens 40".format(model=model)
    alone = f"halo bench model -m {model} -t 2 --rounds 2"
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        theirs += [f["llama_cpp"] for f in _run(alone)["results"] if f["case"] == "token"]
        ours.append(_run(cell)["p50_ms"])
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"| TinyLlama shape, hub + 3 workers against llama.cpp with 2 threads | {ratio:.2f}x | 1.6x | `{cell}` |")


def _prompts(model: str) -> None:
    """A prompt of 256 tokens on the cell next to the hub alone, with one thread and with two; all take turns."""
    options = f"--prompt-tokens 256 --tokens 21 -m {model}"
    alone = {threads: f"halo bench generate --workers 0 -t {threads} {options}" for threads in (1, 2)}
    cells = {
        (plan, loss): f"halo bench generate --workers 3 --plan {plan} --delay 0 --partials f16 --transport udp"
        f"{f' --loss {loss}' if loss else ''} {options}"
        for plan in ("even", "auto")
        for loss in (0, 5)
    }
    times: dict[str, list[float]] = {command: [] for command in [*alone.values(), *cells.values()]}
    for _ in range(_ROUNDS):
        for command, taken in times.items():
            taken.append(_run(command)["prompt_p50_ms"])
    middle = {command: statistics.median(taken) for command, taken in times.items()}
    for (plan, loss), command in cells.items():
        ratio, stretch = (middle[command] / middle[alone[threads]] for threads in (1, 2))
        told = f"{ratio:.2f}x ({stretch:.2f}x of two threads)"
        print(
            f"| a prompt of 256 tokens, plan {plan}, {loss}%, against the hub alone | {told} | 1.05x | `{command}` |",
            flush=True,
        )


def _run(command: str) -> Found:
    program = [sys.executable, "-m", "halo.cli", *shlex.split(command)[1:], "--json"]
    run = subprocess.run(program, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{command} failed:\n{run.stderr}")
    found: Found = json.loads(run.stdout)
    print(f"{command}: {run.stdout.strip()}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
