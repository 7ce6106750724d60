#!/usr/bin/env python3
"""Writes models of TinyLlama's shape (1.1B) with random weights: what the whole-model figures are measured with.

    python benchmarks/make_model.py Q4_0 tinyllama-q4_0.gguf
    halo bench model -m tinyllama-q4_0.gguf --context 1900

Speed does not depend on values, so matrices of one shape are the same in all layers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # for tests.tiny_gguf

from tests.tiny_gguf import KINDS, Shape, write_tiny

TINYLLAMA = Shape(d=2048, n_layers=22, n_heads=32, n_kv_heads=4, ff=5632, n_ctx=2048, vocab=32000)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a model of TinyLlama's shape with random weights.")
    parser.add_argument("type", choices=KINDS)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    print(write_tiny(args.out, args.type, TINYLLAMA, name="tinyllama-random"))


if __name__ == "__main__":
    main()
