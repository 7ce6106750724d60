"""`halo perplexity`: what lateness costs a model in quality, on a text, through the real engine."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halo.cli.console import patience, say, table
from halo.cli.options import Commands, add_cell, add_model, add_quality, broker_of, command, within
from halo.cli.progress import Progress
from halo.limits import LIMITS
from halo.quality import DEFAULT, Quality, parse_quality

if TYPE_CHECKING:
    from halo.cell import Cell
    from halo.model import Model
    from halo.perplexity import Comparison, Lateness, Pass
    from halo.predictor.text import Tokens

_WHAT = "measure a model's perplexity on a text, exact and with a part of it late"
_EXAMPLES = """\
  halo perplexity -m model.gguf --text stories.txt                          exact
  halo perplexity -m model.gguf --text stories.txt --quality balanced --late 20
                                       a fifth of the tolerant groups late, drawn at random
  halo perplexity -m model.gguf --text stories.txt --quality fast --late 20 --late-fade 20
                                       four devices, each faded a fifth of the time, for 20 ms in the mean
  halo perplexity -m model.gguf --text stories.txt --quality fast --workers 4
                                       four real workers, late as they are

A line <|endoftext|> separates documents; each is read from the begin of sequence on and cut where the context ends.
With a quality below exact one token is computed at a time, as in generated text. With --late lateness is injected and
nobody else computes: a late group's mean is added in time, and corrected one sync later. --drop says what it would cost
not to do that. Without --late, --workers and --broker form a cell, as in halo generate; without these either, nothing
is late, but of --quality late:SHARE everything that it names.

Printed are the perplexities, the change, the share of the MLP's group results that was late, how often the most
probable token is the one of the exact pass, and how often it is the text's next one (accuracy): means over --seeds
passes where lateness is random, with their standard deviation.

exit code: 0 done, 1 the model, the text or the cell cannot be used, 2 wrong usage, 130 stopped by Ctrl-C
"""
DROP = "correct"
_COLUMNS = ("change", "agreement", "accuracy", "late_share")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "perplexity", _WHAT, _EXAMPLES, run)
    add_model(parser)
    parser.add_argument("--text", type=Path, metavar="FILE", required=True, help="plain text in UTF-8")
    parser.add_argument(
        "--limit", type=within("predictions"), default=100_000, metavar="N", help="no more predictions than this"
    )
    parser.add_argument("-c", "--ctx-size", type=within("n_ctx"), default=0, metavar="N", help="default: the model's")
    parser.add_argument("-t", "--threads", type=within("n_threads"), metavar="N", help="default: all cores")
    add_quality(parser)
    late = parser.add_argument_group("injected lateness")
    late.add_argument("--late", type=within("percent"), metavar="P", help="percent of the tolerant groups, or of time")
    late.add_argument("--late-fade", type=within("fade_ms"), default=0.0, metavar="MS", help="mean length of a fade")
    late.add_argument("--sync-ms", type=within("sync_ms"), metavar="MS", help="what a sync takes, for fades (2.5)")
    late.add_argument("--drop", choices=(DROP, "mean", "zero"), default=DROP, help=f"({DROP})")
    late.add_argument("--any-group", action="store_true", help="critical groups of relaxed syncs may be late, too")
    late.add_argument("--groups", type=within("mlp_groups"), metavar="G", help="another grid; needs its --sidecar")
    late.add_argument("--seeds", type=within("seeds"), default=5, metavar="N", help="passes with other dice (5)")
    cell = parser.add_argument_group("a cell, or the devices that fade")
    cell.add_argument("--workers", type=within("workers"), metavar="K", help="with --late-fade: simulated devices (4)")
    add_cell(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from halo.model import demo_model, open_model
    from halo.perplexity import predictions_of, sequences_of
    from halo.predictor import read_text
    from halo.predictor.text import open_tokenizer

    _check(args)
    text = read_text(args.text, args.limit)
    with patience("opening the model"):
        path = Path(args.model or demo_model())
        model = open_model(path, mlp_groups=args.groups or int(LIMITS["mlp_groups"].high))
        model.converted.tell(say)
        n_ctx = min(args.ctx_size or model.n_ctx_train, model.n_ctx_train)
        sequences = sequences_of(text, open_tokenizer(model.path), n_ctx, args.limit)
        model.native.load()
    with Progress() as progress:
        exact, used, found = _measure(args, model, sequences, progress)
    report: dict[str, Any] = {
        "model": str(path),
        "text": text.name,
        "documents": len(sequences),
        "predictions": predictions_of(sequences),
        "quality": used["level"],
        "reason": used["reason"],
        "exact": round(exact.perplexity, 5),
        "exact_accuracy": round(exact.accuracy, 5),
        **_summed_up(exact, found),
        "passes": [asdict(comparison) for comparison in found],
    }
    print(json.dumps(report) if args.json else "\n".join(_told(report)))
    return 0


def _check(args: argparse.Namespace) -> None:
    injected = args.late is not None
    real = broker_of(args) is not None or (bool(args.workers) and not injected)
    if args.late_fade and not injected:
        args.parser.error("--late-fade needs --late: which part of the time is a fade")
    if injected and args.late_fade and not 0 < args.late < 100:
        args.parser.error("--late-fade needs a --late between 0 and 100")
    if args.sync_ms is not None and not args.late_fade:
        args.parser.error("--sync-ms is for fades: give --late-fade as well")
    if injected and args.broker:
        args.parser.error("--late is injected on this device alone; a cell (--broker) is late by itself")
    if not injected and (args.any_group or args.drop != DROP):
        args.parser.error("--drop and --any-group are about injected lateness: give --late as well")
    if args.late and args.quality is not None and not parse_quality(args.quality).share:
        args.parser.error("with the quality exact nothing is ever late: give --late another --quality")
    if real and args.groups:
        args.parser.error("--groups is for injected lateness (--late): workers have the model's own grid")


def _measure(
    args: argparse.Namespace, model: Model, sequences: list[Tokens], progress: Progress
) -> tuple[Pass, dict[str, Any], list[Comparison]]:
    """The exact pass, what quality was used, and one comparison a pass with it."""
    from halo import _native
    from halo.perplexity import run as through
    from halo.quality import QualityControl

    threads = args.threads or min(os.cpu_count() or 1, int(LIMITS["n_threads"].high))
    n_ctx = max(len(sequence) for sequence in sequences)
    engine = _native.Engine(model.native, n_ctx, 1, threads)
    # First: a sidecar or a cell that cannot be used ends it.
    control = QualityControl(model, args.sidecar, engine, say)
    in_a_cell = args.late is None and (args.workers or broker_of(args) is not None)
    with _open_cell(args, model, n_ctx) if in_a_cell else nullcontext() as cell:
        exact = through(engine, sequences, single=False, progress=lambda n, of: progress("exact", n, of))
        if cell is not None:
            used = cell.engine
            found = [_compare(used, used.stats, sequences, exact, used.quality.level, progress)]
            return exact, used.quality_report() or {}, found
    # Whoever wants something late wants to know why it cannot be.
    quality = control.set(DEFAULT if args.late and args.quality is None else args.quality)
    found = []
    if quality.share:
        for number, lateness in enumerate(_lateness(args, quality)):
            if lateness is not None:
                lateness.inject(engine, number)
            engine.reset_stats()
            found.append(_compare(engine, engine.stats, sequences, exact, f"{quality.level} {number + 1}", progress))
    return exact, control.report(engine.stats()), found


def _lateness(args: argparse.Namespace, quality: Quality) -> Iterator[Lateness | None]:
    """One for each pass; None: as it is."""
    from halo.perplexity import SYNC_MS, Lateness

    percent = 100 if args.late is None and quality.planned else args.late
    if not percent:
        yield None
        return
    lateness = Lateness(
        percent / 100,
        args.late_fade,
        args.sync_ms or SYNC_MS,
        args.workers or 4,
        args.drop,
        args.any_group,
    )
    for _ in range(1 if percent == 100 else args.seeds):
        yield lateness


def _compare(
    engine: Any, stats: Any, sequences: list[Tokens], exact: Pass, what: str, progress: Progress
) -> Comparison:
    from halo.perplexity import Comparison
    from halo.perplexity import run as through

    late = through(engine, sequences, single=True, progress=lambda n, of: progress(what, n, of))
    return Comparison.of(exact, late, stats()["tolerance"])


def _open_cell(args: argparse.Namespace, model: Model, n_ctx: int) -> Cell:
    from halo.cell import Cell

    return Cell.open(
        model,
        workers=args.workers,
        broker=broker_of(args),
        cell=args.cell,
        n_ctx=n_ctx,
        threads=args.threads or 1,
        quality=args.quality,
        sidecar=args.sidecar,
        log=say,
    )


def _summed_up(exact: Pass, found: list[Comparison]) -> dict[str, Any]:
    from halo.perplexity import mean_and_spread

    if not found:
        return {"perplexity": round(exact.perplexity, 5), "late_share": 0.0}
    summed: dict[str, Any] = {"perplexity": round(mean_and_spread([c.perplexity for c in found])[0], 5)}
    for column in _COLUMNS:
        mean, spread = mean_and_spread([getattr(c, column) for c in found])
        summed[column], summed[f"{column}_spread"] = round(mean, 6), round(spread, 6)
    return summed


def _told(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['text']}: {report['predictions']} predictions in {report['documents']} documents"
    rows = [("", "perplexity", "change", "late", "agreement", "accuracy")]
    rows.append(("exact", f"{report['exact']:.4f}", "", "", "", f"{100 * report['exact_accuracy']:.2f}%"))
    if "change" in report:
        spread = f" +- {100 * report['change_spread']:.2f}" if len(report["passes"]) > 1 else ""
        rows.append(
            (
                report["quality"],
                f"{report['perplexity']:.4f}",
                f"{100 * report['change']:+.2f}%{spread}",
                f"{100 * report['late_share']:.2f}%",
                f"{100 * report['agreement']:.2f}%",
                f"{100 * report['accuracy']:.2f}%",
            )
        )
    yield from table(rows)
