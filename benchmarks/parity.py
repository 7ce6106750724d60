#!/usr/bin/env python3
"""Prints how HALO's logits agree with llama.cpp's: the table of docs/benchmarks.md.

python benchmarks/parity.py                          # the demo models, on models/eval.txt
python benchmarks/parity.py MODEL.gguf ... --texts TEXTS.txt
python benchmarks/parity.py --made           # made-up models: every weight type, and what model files may have
python benchmarks/parity.py --partials f16           # a hub that computes nothing, and 3 workers in one process
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for tests.parity; last, so that an installed halo stays the one that is measured

from halo.engine import Engine  # noqa: E402
from halo.limits import PARTIALS  # noqa: E402
from halo.model import open_model  # noqa: E402
from tests.native.in_process import LocalCell  # noqa: E402
from tests.parity.harness import HEAD, POSITIONS, TEXTS, compare, difference, native_engine  # noqa: E402
from tests.parity.made import MADE, compare_made  # noqa: E402

WORKERS = 3


@contextmanager
def sharing_engine(path: Path, n_ctx: int, partials: str) -> Iterator[Engine]:
    """A hub whose workers compute everything."""
    cell = LocalCell(open_model(path), WORKERS, n_ctx=n_ctx, partials=partials)
    cell.engine.set_plan("even", 0.0)
    yield cell.engine


def compare_all_made() -> None:
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        for name in MADE:
            for result in compare_made(name, Path(folder)):
                print(result.row(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare HALO's logits with llama.cpp's, teacher-forced.")
    parser.add_argument("models", nargs="*", type=Path, help="GGUF files (default: models/halo-demo-*.gguf)")
    parser.add_argument("--texts", type=Path, default=ROOT / "models" / "eval.txt", help="separated by <|endoftext|>")
    parser.add_argument("--count", type=int, default=TEXTS, help="texts (%(default)s)")
    parser.add_argument("--positions", type=int, default=POSITIONS, help="tokens of each text (%(default)s)")
    parser.add_argument("--partials", choices=PARTIALS, help="of a cell with workers (default: one device, none)")
    parser.add_argument("--made", action="store_true", help="made-up models instead, on random tokens")
    args = parser.parse_args()
    if args.made:
        compare_all_made()
        return
    models = args.models or sorted((ROOT / "models").glob("halo-demo-*.gguf"))
    size = {"count": args.count, "positions": args.positions}
    engine = partial(sharing_engine, partials=args.partials) if args.partials else native_engine
    print(HEAD)
    for model in models:
        for result in compare(model, args.texts, engine, **size):
            print(result.row(), flush=True)
    if args.partials:
        print(f"\n| model | {args.partials} against f32 partials, rms | largest | other argmax |")
        print("| --- | --- | --- | --- |")
        for model in models:
            exact = partial(sharing_engine, partials="f32")
            print(difference(model, args.texts, engine, exact, **size), flush=True)


if __name__ == "__main__":
    main()
