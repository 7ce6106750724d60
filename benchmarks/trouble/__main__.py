"""Prints what trouble costs, a row for each figure: `python -m benchmarks.trouble --help`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.make_model import TINYLLAMA
from benchmarks.trouble import devices, network, relaxed, soak, survival
from benchmarks.trouble.rows import HEAD, Row, Run, Scenario
from halo.model import demo_model
from tests.tiny_gguf import write_tiny

_SCENARIOS: dict[str, Scenario] = {
    **survival.scenarios(),
    **soak.scenarios(),
    **network.scenarios(),
    **devices.scenarios(),
    **relaxed.scenarios(),
}


def main() -> int:
    """Exit code 1 where a bar is missed."""
    args = _parser().parse_args()
    chosen = {name: scenario for name, scenario in _SCENARIOS.items() if args.only in name}
    if args.list or not chosen:
        print("\n".join(_SCENARIOS))
        return 0 if args.list else 2
    run = Run(
        stories=args.stories or demo_model(),
        tinyllama=lambda: args.tinyllama or _tinyllama(),
        say=_say if args.verbose else lambda line: None,
        faults=args.faults,
        minutes=args.minutes,
        trained=tuple(args.trained or ()),
        text=args.text,
    )
    if not args.json:
        print(HEAD, flush=True)
    held = True
    for name, scenario in chosen.items():
        for row in _played(name, scenario, run):
            print(
                json.dumps({"scenario": name, **dataclasses.asdict(row)}) if args.json else row.markdown(), flush=True
            )
            held &= row.ok is not False
    return 0 if held else 1


def _played(name: str, scenario: Scenario, run: Run) -> Iterator[Row]:
    """Its rows; whatever goes wrong is one more, since the others are still worth having."""
    try:
        yield from scenario(run)
    except Exception as error:
        yield Row(name, "", f"failed: {type(error).__name__}: {' '.join(str(error).split())}", False)


def _tinyllama() -> Path:
    """Made once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halo"
    path = cache / "tinyllama-random-q4_0.gguf"
    if not path.is_file():
        _say("writing a model of TinyLlama's shape")
        cache.mkdir(parents=True, exist_ok=True)
        write_tiny(part := path.with_suffix(".part"), "Q4_0", TINYLLAMA, name="tinyllama-random")
        part.replace(path)
    return path


def _say(line: str) -> None:
    print(f"trouble: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trouble",
        description="What trouble costs a cell: a row of Markdown for each figure. Needs root, iproute2, gcc and "
        "mosquitto, as the laboratory does (docs/lab.md).",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios with this in their name")
    parser.add_argument("--list", action="store_true", help="print their names")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row")
    parser.add_argument("--verbose", action="store_true", help="tell what happens, on stderr")
    parser.add_argument("--stories", type=Path, metavar="FILE", help="GGUF file (default: the demo model)")
    parser.add_argument("--tinyllama", type=Path, metavar="FILE", help="of that shape (default: one is made, once)")
    parser.add_argument("--faults", type=int, default=12, metavar="N", help="of the soak (default: 12)")
    parser.add_argument("--minutes", type=float, default=0, metavar="X", help="the soak's limit (default: 55 s)")
    parser.add_argument("--trained", type=Path, nargs="+", metavar="FILE", help="models whose perplexity is measured")
    parser.add_argument("--text", type=Path, metavar="FILE", help="the text that it is measured on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
