#!/usr/bin/env python3
"""Prints HALO's perplexity next to llama.cpp's: the table of docs/benchmarks.md.

python benchmarks/perplexity.py                                        # the demo models, on models/eval.txt
python benchmarks/perplexity.py MODEL.gguf ... --texts TEXTS.txt
python benchmarks/perplexity.py MODEL-f32.gguf --types F16 Q6_K        # also quantised to these by llama.cpp

Each text is a sequence of its own, from the begin of sequence, cut where the context ends; every position counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for tests.llama; last, so that an installed halo stays the one that is measured

from halo import _native  # noqa: E402
from halo.errors import ModelError  # noqa: E402
from halo.model import open_model  # noqa: E402
from halo.perplexity import predictions_of, run, sequences_of  # noqa: E402
from halo.predictor import Text, read_text  # noqa: E402
from halo.predictor.reorder import quantise  # noqa: E402
from halo.predictor.text import open_tokenizer  # noqa: E402
from tests.llama.oracle import Oracle  # noqa: E402

_BAR = 0.005


def row(path: Path, name: str, text: Text, limit: int, threads: int) -> str:
    model = open_model(path)
    n_ctx = model.n_ctx_train
    sequences = sequences_of(text, open_tokenizer(model.path), n_ctx, limit)
    ours = run(_native.Engine(model.native, n_ctx, threads=threads), sequences, single=False)
    with Oracle(model.path, n_ctx, n_threads=threads, flash_attn=True) as oracle:
        theirs = run(oracle, sequences, single=False)
    change = ours.perplexity / theirs.perplexity - 1
    agreement = float((ours.best == theirs.best).mean())
    return (
        f"| {name} | {model.types} | {predictions_of(sequences)} | {ours.perplexity:.4f} | {theirs.perplexity:.4f} "
        f"| {100 * change:+.3f}% | {100 * agreement:.2f}% | {'yes' if abs(change) <= _BAR else 'NO'} |"
    )


def variants(paths: list[Path], types: list[str], folder: Path, threads: int) -> Iterator[tuple[Path, str]]:
    """The models, each followed by what llama.cpp quantises it to, with their names."""
    for path in paths:
        yield path, path.stem
        for kind in types:
            out = folder / f"{path.stem}-{kind}.gguf"
            quantise(path, out, kind, threads)
            yield out, f"{path.stem} to {kind}"
            out.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare HALO's perplexity with llama.cpp's.")
    parser.add_argument("models", nargs="*", type=Path, help="GGUF files (default: models/halo-demo-*.gguf)")
    parser.add_argument("--texts", type=Path, default=ROOT / "models" / "eval.txt", help="separated by <|endoftext|>")
    parser.add_argument("--limit", type=int, default=1 << 30, help="predictions (default: all)")
    parser.add_argument("--types", nargs="*", default=[], help="quantise each to these as well (Q6_K, ...)")
    parser.add_argument("-t", "--threads", type=int, default=1, help="more only help on a quiet machine (%(default)s)")
    args = parser.parse_args()
    text = read_text(args.texts, args.limit)
    print("| model | types | predictions | HALO | llama.cpp | change | same most probable token | within 0.5% |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        models = args.models or sorted((ROOT / "models").glob("halo-demo-*.gguf"))
        for path, name in variants(models, args.types, Path(folder), args.threads):
            try:
                print(row(path, name, text, args.limit, args.threads), flush=True)
            except ModelError as error:
                print(f"| {name} | - | - | - | - | - | - | {error} |", flush=True)


if __name__ == "__main__":
    main()
