"""`halo calibrate`: learns a model's sidecar, or measures how well one ranks."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from types import FrameType
from typing import Any

from halo.cli import signals_to_end
from halo.cli.console import patience, say, table
from halo.cli.options import Commands, add_model, command, within
from halo.cli.progress import Progress
from halo.limits import LIMITS, REORDERED_TYPES

_WHAT = "learn which parts of a model matter for which token, into a sidecar file beside the model"
_EXAMPLES = """\
  halo calibrate -m model.gguf                       writes model.halo.gguf
  halo calibrate -m model.gguf --text pages.txt      from text like yours, not from the one that comes with HALO
  halo calibrate -m model.gguf --evaluate other.txt  how well the sidecar ranks on text that it has not seen
  halo calibrate -m model-f16.gguf --reorder hot-q4_0.gguf --type Q4_0
                                                     also a model with its neurons ordered, and its sidecar

Each layer's MLP is cut into groups of neurons. The sidecar says, for each group, what it gives on average, and how
to predict from the layer's input how far it will be from that: what a cell may let be late for this token, and what
it must wait for. It fits one model file; another quantisation of the same model needs its own.

Text is read as UTF-8; a line <|endoftext|> separates documents. More text is better, up to some 16000 tokens. The
text is read twice; TinyLlama 1.1B takes some minutes on two cores. Ctrl-C leaves a checkpoint beside the output
(.part), and the same command goes on from there.

--reorder also writes the model with the neurons of each MLP ordered hot to cold, so that its groups differ more in how
much they matter: the same model for every program that reads GGUF. The source must be F32, F16, BF16 or Q8_0. The new
file gets a sidecar of its own beside it.

--evaluate prints, for each layer, Spearman's rank correlation with the true order of the groups (1: the very order,
0: chance), of the predictor and of a static table, and which share of the true bottom quarter each of them finds.
The figures are means over all tokens; groups that are empty are left out.

exit code: 0 done, 1 the model, the text or the sidecar cannot be used, 2 wrong usage, 130 stopped by Ctrl-C
"""
_STAGES = {
    "means": "1/3 what groups give",
    "fit": "2/3 how it depends on the input",
    "solve": "3/3 predictors of the layers",
}
_ORDERING, _WRITING = "ordering neurons", "writing the re-ordered model"
_MEASURING = "measuring"


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "calibrate", _WHAT, _EXAMPLES, run)
    add_model(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="SIDECAR", help="default: MODEL with .halo.gguf")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--text", type=Path, metavar="FILE", help="plain text to learn from (default: one of HALO's own)")
    text.add_argument(
        "--evaluate", type=Path, metavar="FILE", help="learn nothing; measure the sidecar (-o) on this text"
    )
    parser.add_argument(
        "--tokens",
        type=within("calibration_tokens"),
        default=16384,
        metavar="N",
        help="no more of the text than this (16384)",
    )
    parser.add_argument(
        "--groups",
        type=within("mlp_groups"),
        metavar="G",
        help="for experiments: cut the MLP into at most G groups; such a sidecar is for --evaluate only",
    )
    parser.add_argument("--reorder", type=Path, metavar="OUT.gguf", help="also write the model re-ordered hot to cold")
    parser.add_argument("--type", choices=REORDERED_TYPES, help="of the re-ordered model (default: as the model is)")
    parser.add_argument("-t", "--threads", type=within("n_threads"), metavar="N", help="default: all cores")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Calibrate or evaluate."""
    from halo.model import demo_model
    from halo.predictor import sidecar_path

    if args.evaluate is not None and args.groups is not None:
        args.parser.error("--groups goes with calibration; --evaluate takes the grid of the sidecar")
    if args.reorder is not None and (args.evaluate is not None or args.groups is not None):
        args.parser.error("--reorder goes with neither --evaluate nor --groups")
    if args.type is not None and args.reorder is None:
        args.parser.error("--type is the type of the re-ordered model: give --reorder as well")
    model = Path(args.model or demo_model())
    output = args.output or sidecar_path(model)
    threads = args.threads or min(os.cpu_count() or 1, int(LIMITS["n_threads"].high))
    return (_calibrate if args.evaluate is None else _evaluate)(args, model, output, threads)


def _calibrate(args: argparse.Namespace, path: Path, output: Path, threads: int) -> int:
    from halo.model import open_model
    from halo.predictor import Paused, builtin_text, read_text, sidecar_path
    from halo.predictor.reorder import check_sidecars, check_source, check_target, neuron_order, write_reordered

    if args.reorder is not None:
        check_sidecars(output, args.reorder)
    text = builtin_text() if args.text is None else read_text(args.text, args.tokens)
    with patience("opening the model"):
        model = open_model(path, mlp_groups=args.groups or int(LIMITS["mlp_groups"].high))
        model.converted.tell(say)
        pieces = _pieces(model, text, args.tokens)
        if args.reorder is not None:
            check_source(model)
            check_target(model, args.reorder)
        model.native.load()
    reports = []
    with _stop_softly() as stopped:
        try:
            reports.append(_learn(model, text, pieces, output, threads, stopped))
            if args.reorder is not None:
                with Progress() as progress:
                    order = neuron_order(
                        model, pieces, threads=threads, progress=lambda n, of: progress(_ORDERING, n, of)
                    )
                    write_reordered(
                        model,
                        order,
                        args.reorder,
                        kind=args.type,
                        threads=threads,
                        progress=lambda n, of: progress(_WRITING, n, of),
                    )
                new = open_model(args.reorder)
                new.native.load()
                reports.append(_learn(new, text, pieces, sidecar_path(args.reorder), threads, stopped))
        except Paused:
            at = output if not reports else sidecar_path(args.reorder)
            say(f"stopped; the same command goes on from {at.name}.part")
            return 128 + stopped[0]
    if args.json:
        more = {} if args.reorder is None else {"reordered": reports[1]}
        print(json.dumps({**reports[0], **more}))
        return 0
    for report in reports:
        explained = report["explained"]
        print(
            f"{report['sidecar']}: {report['layers']} layers of {max(report['groups'])} groups, learned from "
            f"{report['tokens']} tokens in {report['seconds']:.0f} s; the predictor explains "
            f"{100 * sum(explained) / len(explained):.0f}% of what varies"
        )
    return 0


def _learn(model: Any, text: Any, pieces: Any, output: Path, threads: int, stopped: list[int]) -> dict[str, Any]:
    """Calibrate one model; returns what is told of it. Raises Paused where `stopped` says so."""
    from halo.predictor import Summary, calibrate

    with Progress() as progress:
        summary: Summary = calibrate(
            model,
            text,
            pieces,
            output,
            threads=threads,
            progress=lambda stage, done, total: progress(_STAGES[stage], done, total),
            stop=lambda: bool(stopped),
        )
    tables = summary.sidecar.layers
    return {
        "model": str(model.path),
        "sidecar": str(output),
        "layers": len(tables),
        "groups": [len(layer.bias) for layer in tables],
        "empty_groups": sum(int((~layer.counted).sum()) for layer in tables),
        "tokens": summary.sidecar.tokens,
        "text": {"name": text.name, "sha256": text.sha256},
        "seconds": round(summary.seconds, 2),
        "resumed": summary.resumed,
        "explained": [round(share, 4) for share in summary.explained],
    }


def _evaluate(args: argparse.Namespace, path: Path, sidecar: Path, threads: int) -> int:
    from halo.model import open_model
    from halo.predictor import evaluate, groups_of, read_sidecar, read_text

    text = read_text(args.evaluate, args.tokens)
    groups = groups_of(sidecar)
    with patience("opening the model"):
        model = open_model(path, mlp_groups=min(groups, int(LIMITS["mlp_groups"].high)))
        known = read_sidecar(sidecar, model)
        pieces = _pieces(model, text, args.tokens)
    if text.sha256 == known.text_sha256:
        say("this is the text that the sidecar was learned from: on any other one the figures are lower")
    with Progress() as progress:
        result = evaluate(
            model, known, pieces, threads=threads, progress=lambda done, total: progress(_MEASURING, done, total)
        )
    figures = ("predictor", "static", "predictor_recall", "static_recall")
    means = {figure: _rounded(result.mean(figure)) for figure in figures}
    layers = [{"groups": s.groups} | {f: _rounded(getattr(s, f)) for f in figures} for s in result.layers]
    if args.json:
        report = {"model": str(path), "sidecar": str(sidecar), "tokens": result.tokens, **means, "by_layer": layers}
        print(json.dumps(report))
        return 0
    rows: list[Sequence[str]] = [("layer", "groups", "predictor", "static", "bottom quarter: predictor", "static")]
    rows += [(str(i), str(layer["groups"]), *(_shown(layer[f]) for f in figures)) for i, layer in enumerate(layers)]
    rows.append(("all", "", *(_shown(means[f]) for f in figures)))
    print("\n".join([*table(rows), f"Spearman's rank correlation, and recall; means over {result.tokens} tokens"]))
    return 0


def _pieces(model: Any, text: Any, tokens: int) -> Any:
    from halo.predictor.text import open_tokenizer, pieces_of

    return pieces_of(text, open_tokenizer(model.path), model.n_ctx_train, tokens)


def _rounded(figure: float) -> float | None:
    return None if isnan(figure) else round(figure, 4)


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


@contextlib.contextmanager
def _stop_softly() -> Iterator[list[int]]:
    """The first Ctrl-C, SIGTERM or SIGHUP is only noted, in the list; the second one ends the program as usual."""
    noted: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, *signals_to_end())}

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        for one, handler in usual.items():
            signal.signal(one, handler)

    for number in usual:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
