#!/usr/bin/env python3
"""Prints what predicting and choosing tolerant groups takes, as a share of a layer's time.

    python benchmarks/make_model.py Q4_0 tinyllama-q4_0.gguf
    python benchmarks/predictor_cost.py tinyllama-q4_0.gguf

It is measured inside the engine while it generates, so with caches as they are then. Nothing is late; tables are
random, which changes no time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from halo import _native
from halo.model import Model, open_model
from halo.model.gguf import TensorInfo

_HARDLY_EVER = 1e-300  # a probability with which the engine has to choose


def random_tables(model: Model) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    random, d = np.random.default_rng(1), model.spec.d

    def table(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    counts = [len(bounds) - 1 for bounds in model.grid.mlp]
    return [(table(n, d), table(n, d), table(n), np.ones(n, np.float32)) for n in counts]


def share_of_layers(model: Model) -> float:
    """How much of a token's weights the layers are; the rest is the output head."""
    sizes = _native.weight_types()
    by_number = {number: (values, size) for number, values, size in sizes.values()}

    def size_of(tensor: TensorInfo) -> float:
        values, size = by_number.get(tensor.type, (1, 4))
        return float(np.prod(tensor.shape)) / values * size

    layers = sum(size_of(t) for name, t in model.file.tensors.items() if name.startswith("blk."))
    head = model.file.tensors.get("output.weight", model.file.tensors["token_embd.weight"])
    return layers / (layers + size_of(head))


def main() -> None:
    parser = argparse.ArgumentParser(description="What the predictor costs, as a share of a layer's time.")
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-n", "--tokens", type=int, default=100)
    args = parser.parse_args()
    model = open_model(args.model)
    model.native.load()
    engine = _native.Engine(model.native, args.tokens + 16, threads=args.threads)
    engine.set_tolerance(random_tables(model))
    engine.set_quality(0.25)
    engine.inject_lateness(_HARDLY_EVER)
    layers, relaxed = model.spec.n_layers, model.spec.n_layers - 2
    part = share_of_layers(model)
    choosing, computing = [], []
    for i in range(args.tokens + 8):
        engine.reset_stats()
        begin = time.perf_counter()
        engine.forward(0, [i % model.spec.vocab])
        took = (time.perf_counter() - begin) * 1e6
        if i >= 8:
            choosing.append(engine.stats()["choose_us"] / relaxed)
            computing.append(took * part / layers)
    shares = [a / b for a, b in zip(choosing, computing, strict=True)]
    print(f"groups {len(model.grid.mlp[0]) - 1}, threads {args.threads}, tokens {args.tokens}; medians:")
    print(f"layer {statistics.median(computing):.0f} us, predictor {statistics.median(choosing):.1f} us")
    print(f"share {statistics.median(shares):.2%}, 9 in 10 tokens below {sorted(shares)[int(0.9 * len(shares))]:.2%}")


if __name__ == "__main__":
    main()
