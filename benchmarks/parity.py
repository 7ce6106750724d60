#!/usr/bin/env python3
"""Prints how HALO's logits agree with llama.cpp's: the table of docs/benchmarks.md.

python benchmarks/parity.py                          # the demo models, on models/eval.txt
python benchmarks/parity.py MODEL.gguf ... --texts TEXTS.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for tests.parity; last, so that an installed halo stays the one that is measured

from tests.parity.harness import HEAD, POSITIONS, TEXTS, compare  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare HALO's logits with llama.cpp's, teacher-forced.")
    parser.add_argument("models", nargs="*", type=Path, help="GGUF files (default: models/halo-demo-*.gguf)")
    parser.add_argument("--texts", type=Path, default=ROOT / "models" / "eval.txt", help="separated by <|endoftext|>")
    parser.add_argument("--count", type=int, default=TEXTS, help="texts (%(default)s)")
    parser.add_argument("--positions", type=int, default=POSITIONS, help="tokens of each text (%(default)s)")
    args = parser.parse_args()
    models = args.models or sorted((ROOT / "models").glob("halo-demo-*.gguf"))
    print(HEAD)
    for model in models:
        for result in compare(model, args.texts, count=args.count, positions=args.positions):
            print(result.row(), flush=True)


if __name__ == "__main__":
    main()
