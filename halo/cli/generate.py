"""`halo generate`: text from a prompt, computed by this device and its workers."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halo.cli.console import patience, say, size
from halo.cli.options import (
    VARIABLE,
    Commands,
    add_cell,
    add_model,
    add_pace,
    add_quality,
    add_sharing,
    broker_of,
    by_variable,
    command,
    within,
)
from halo.errors import HaloError
from halo.words import shortened

if TYPE_CHECKING:
    from halo.api import Generation

_WHAT = "generate text from a prompt, on this device and the workers it is given"
_EXAMPLES = """\
  halo generate -p "Once upon a time" -n 100 --workers 3
  halo generate -m tinyllama-q8_0.gguf -f question.txt --temp 0
  halo generate -m model.gguf -p "Hello" --broker mqtt://pi1 --workers 2 --json

Without --broker, --workers starts that many processes on this machine. With it, that many devices of the
cell take part (without a number: all that are ready).

--json tells what each device has computed, sent and received (the hub is the first), how often it was late and somebody
else computed in its place ("late", "stand_ins"), how each worker was reached ("link": over udp or mqtt, round trip,
loss each way), and why the text ends:
"quality" says which one was used, and which share of the MLP's group results was late ("late_share").
"finish" is "stop" (the model ended it), "length" (-n) or "context" (full; -c).
"""

_LONGEST = 32 << 20
"""Bytes of a prompt: a million tokens, the largest window, are fewer."""
_LOSS_WORTH_TELLING = 0.01
_NOT_FOR_TERMINALS = {code: "?" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_ALONE = 0.99
"""With so much of the work this device might as well be alone."""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "generate", _WHAT, _EXAMPLES, run)
    add_model(parser)
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("-p", "--prompt", metavar="TEXT", help="the prompt (default: what is piped in)")
    prompt.add_argument("-f", "--file", metavar="FILE", type=Path, help="read the prompt from a file")
    parser.add_argument(
        "-n",
        "--predict",
        type=within("max_tokens"),
        default=128,
        metavar="N",
        help="tokens to generate at most; -1: until the context is full (default: 128)",
    )
    parser.add_argument("--workers", type=within("workers"), metavar="K", help="how many workers take part")
    add_cell(parser)
    parser.add_argument(
        "-c",
        "--ctx-size",
        type=within("n_ctx"),
        default=0,
        metavar="N",
        help="context, tokens, rounded up to a multiple of 256 (default: the model's)",
    )
    parser.add_argument(
        "-t", "--threads", type=within("n_threads"), metavar="N", help="threads of this device (default: all cores)"
    )
    add_sharing(parser)
    add_quality(parser)
    add_pace(parser, "the --pace of the workers that are started here")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--temp", type=within("temperature"), default=0.8, help="temperature; 0: always the most probable (0.8)"
    )
    sampling.add_argument(
        "--top-k", type=within("top_k"), default=40, help="only the k most probable tokens; 0: all (40)"
    )
    sampling.add_argument(
        "--top-p", type=within("top_p"), default=0.95, help="only the most probable of this mass (0.95)"
    )
    sampling.add_argument(
        "--min-p", type=within("min_p"), default=0.05, help="none less probable than this times the first (0.05)"
    )
    sampling.add_argument(
        "-s", "--seed", type=within("seed"), default=-1, help="the same seed gives the same text (-1: a new one)"
    )
    parser.add_argument(
        "--no-display-prompt",
        dest="display_prompt",
        action="store_false",
        help="print the new text only, and not the prompt before it",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object at the end, and no stream")
    output.add_argument("--quiet", action="store_true", help="the new text, and nothing else but errors")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Open, stream, summarise."""
    from halo.api import Generation, Options

    if args.pace and broker_of(args) is not None:
        raise SystemExit(args.parser.error("--pace is for workers that are started here: give it to their halo worker"))
    log = _nothing if args.quiet else say
    if by_variable(args):
        log(f"joining the broker that the variable {VARIABLE} names (--broker local goes without it)")
    options = Options(
        read_prompt(args),
        model=args.model,
        max_tokens=args.predict,
        workers=args.workers,
        broker=broker_of(args),
        cell=args.cell,
        temperature=args.temp,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        seed=args.seed,
        n_ctx=args.ctx_size,
        threads=args.threads,
        worker_pace_us=args.pace,
        partials=args.partials,
        transport=args.transport,
        plan=args.plan,
        hub_share=args.hub_share,
        residency=args.residency,
        quality=args.quality,
        sidecar=args.sidecar,
        log=log,
    )
    generation = Generation(options)
    with patience("opening the model"):
        generation.open()
    with generation:
        shown = options.prompt if args.display_prompt and not args.quiet else ""
        text = _stream(generation, show=not args.json, before=shown)
        report = _report(generation, text)
    if report["finish"] == "context":
        log("the text ends because the context window is full; -c gives a larger one")
    if args.plan == "auto" and does_not_pay(report):
        log(
            "sharing does not pay: with this model and these links this device is faster alone, and did all the work "
            "(--plan even shares it all the same)"
        )
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        log(_summary(report))
    return 0


def read_prompt(args: argparse.Namespace) -> str:
    """From -p, from -f, or from what is piped in; the newline that ends a file is no part of it."""
    if args.prompt is not None:
        return _text(args.prompt.encode("utf-8", "surrogateescape"), newline="")  # the bytes that were typed
    if args.file is not None:
        try:
            with args.file.open("rb") as file:
                return _text(file.read(_LONGEST + 1))
        except OSError as error:
            raise HaloError(f"The prompt cannot be read from {args.file}: {error.strerror}.") from None
    if not sys.stdin.isatty() and (text := _text(sys.stdin.buffer.read(_LONGEST + 1))):
        return text
    raise SystemExit(args.parser.error("there is no prompt: give one with -p TEXT or -f FILE, or pipe it in"))


def _text(data: bytes, newline: str = "\n") -> str:
    if len(data) > _LONGEST:
        raise HaloError(
            f"The prompt is longer than {_LONGEST >> 20} MiB, more than any context window holds: shorten it. Is "
            "it the file that you meant?"
        )
    if b"\0" in data:
        raise HaloError(
            f"The prompt is no text: byte {data.index(0)} is zero. Is it the file that you meant? UTF-16 must be "
            "converted to UTF-8 first, for example with iconv."
        )
    try:
        return data.decode("utf-8").removesuffix(newline)
    except UnicodeDecodeError as error:
        raise HaloError(
            f"The prompt is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}. "
            "Convert it first, for example with iconv."
        ) from None


def _stream(generation: Generation, show: bool, before: str) -> str:
    pieces: list[str] = []
    write = _show if show else _nothing
    try:
        write(before)
        with patience("reading the prompt"):
            first = next(generation, None)
        if first is not None:
            pieces.append(first)
            write(first)
        for piece in generation:
            pieces.append(piece)
            write(piece)
    finally:
        if before or pieces:
            with contextlib.suppress(OSError):  # told when the rest is flushed
                write("\n")  # after Ctrl-C too, what follows begins on a line of its own
    return "".join(pieces)


def _show(text: str) -> None:
    """As it is, but for a terminal: what a model says is no command to it."""
    sys.stdout.write(text.translate(_NOT_FOR_TERMINALS) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _report(generation: Generation, text: str) -> dict[str, Any]:
    figures, cell = generation.figures, generation.report()
    speed, first = figures.tokens_per_s, figures.first_token_s
    return {
        "text": text,
        "tokens": figures.tokens,
        "prompt_tokens": figures.prompt_tokens,
        "tokens_per_s": None if speed is None else round(speed, 3),
        "time_to_first_token_s": None if first is None else round(first, 4),
        "load_s": round(figures.load_s, 3),
        "seed": figures.seed,
        "finish": figures.finish,
        **cell,
    }


def _summary(report: dict[str, Any]) -> str:
    speed, first, totals = report["tokens_per_s"], report["time_to_first_token_s"], report.get("totals")
    parts = [f"{report['tokens']} tokens"]
    parts += [f"{speed:.1f} tokens/s"] if speed else []
    parts += [f"first after {first:.2f} s"] if first is not None else []
    if totals and totals["messages_sent"]:
        parts.append(f"sent {size(totals['bytes_sent'])}, received {size(totals['bytes_received'])}")
    shares = [f"{d['name']} {100 * d['share']:.0f}%" for d in report.get("devices", [])]
    halves = [", ".join(parts), *([shortened(shares)] if len(shares) > 1 else []), *_unusual_links(report)]
    halves += _quality(report)
    return "; ".join(halves)


def _quality(report: dict[str, Any]) -> list[str]:
    """`quality balanced, 0.31% of the MLP late` where anything could be late."""
    quality = report.get("quality")
    if not quality or not quality["share"]:
        return []
    late = quality["late_share"]
    return [f"quality {quality['level']}, {f'{100 * late:.2f}% of the MLP' if late else 'nothing'} late"]


def does_not_pay(report: dict[str, Any]) -> bool:
    """Whether the plan has left the workers idle although they were there: stable, and known for what they can do."""
    devices = report.get("devices", [])
    stable = [d for d in devices[1:] if d.get("state") == "stable" and d["requests"]]
    return bool(stable) and devices[0]["share"] >= _ALONE and all(10 * d["stand_ins"] <= d["requests"] for d in stable)


def _unusual_links(report: dict[str, Any]) -> list[str]:
    """`2 workers over udp, loss 5.1%, 1 over mqtt (pi3)` where a link is not as it should be."""
    here = [d for d in report.get("devices", []) if d.get("state") not in ("gone", "expelled")]
    links = {d["name"]: d["link"] for d in here if "link" in d}
    udp = [link for link in links.values() if link["transport"] == "udp"]
    others = [name for name, link in links.items() if link["transport"] != "udp" and link["reason"]]
    loss = max((max(link["loss_to"] or 0, link["loss_from"] or 0) for link in udp), default=0)
    if not others and loss < _LOSS_WORTH_TELLING:
        return []
    parts = [f"{len(udp)} worker{'s' if len(udp) > 1 else ''} over udp"] if udp else []
    parts += [f"loss up to {100 * loss:.1f}%"] if loss >= _LOSS_WORTH_TELLING else []
    parts += [f"{len(others)} over mqtt ({shortened(others)})"] if others else []
    return [", ".join(parts)]


def _nothing(line: str) -> None:
    """Where what is not wanted goes: log lines with --quiet, the text as it comes with --json."""
