#!/usr/bin/env python3
"""Prints what a worker takes: the time to open a file with a large vocabulary, and its memory, whole and with a shard.

python benchmarks/memory.py                                 # a file with as many tokens and merges as Llama 3 has
python benchmarks/memory.py --shards tinyllama-q4_0.gguf    # 3 workers of a cell, each with a third of the layers
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for tests.tiny_gguf; last, so that an installed halo stays the one that is measured

from halo import _native  # noqa: E402
from halo.cell import Cell  # noqa: E402
from halo.cell.local import WORKER_COMMAND  # noqa: E402
from halo.model import Model, open_model  # noqa: E402
from tests.tiny_gguf import large_vocabulary, write_tiny  # noqa: E402

NOBODY = "mqtt://127.0.0.1:1"
_OPEN = "import sys, time; from halo.model import open_model; t = time.perf_counter(); open_model(sys.argv[1]); "
_WORKERS, _N_CTX, _PROMPT, _TOKENS = 3, 512, 64, 32
_MB = 1e6


def memory_of(pid: int, *kinds: str) -> int:
    """Bytes, a sum of the kernel's figures: Private_Clean, Private_Dirty, Rss, ..."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(1024 * int(number) for kind in kinds for number in re.findall(rf"^{kind}: +(\d+)", rollup, re.M))


def private_bytes(pid: int) -> int:
    return memory_of(pid, "Private_Clean", "Private_Dirty")


@contextmanager
def idle_worker(model: Path) -> Iterator[int]:
    """The process id of a worker that has opened the model, and waits for a broker that is not there."""
    command = [*WORKER_COMMAND, "--broker", NOBODY, "--wait", "-m", str(model)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while "waiting for the broker" not in process.stderr.readline():
                if process.poll() is not None:
                    raise RuntimeError(f"the worker ended with {process.returncode}")
            yield process.pid
        finally:
            process.terminate()


def print_opening() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_tiny(Path(folder) / "vocabulary.gguf", "Q8_0", large_vocabulary())
        command = [sys.executable, "-c", _OPEN + "print(time.perf_counter() - t)", str(path)]
        seconds = [float(subprocess.check_output(command)) for _ in range(5)]
        with idle_worker(path) as pid:
            private = private_bytes(pid)
    print("| opening 128256 tokens and 280147 merges | found | bar |\n| --- | --- | --- |")
    print(f"| `open_model` | {statistics.median(seconds):.3f} s | 0.5 s |")
    print(f"| private memory of an idle `halo worker` | {private / _MB:.0f} MB | 60 MB |")


def share_of(model: Model, workers: int) -> int:
    """Bytes in the file of what one of so many workers holds: its part of the layers, and all of k and v."""
    sizes = {number: (block, size) for number, block, size in _native.weight_types().values()}
    total = 0.0
    for name, tensor in model.file.tensors.items():
        block, size = sizes[tensor.type]
        if name.startswith("blk.") and len(tensor.shape) > 1:
            part = 1 if ".attn_k." in name or ".attn_v." in name else workers
            total += prod(tensor.shape) // block * size / part
    return int(total)


def print_shards(path: Path) -> None:
    model = open_model(path)
    print(f"| a worker of {_WORKERS}, {model.types}, {model.size / _MB:.0f} MB | share of the file | resident | more |")
    print("| --- | --- | --- | --- |")
    with Cell.open(
        model, workers=_WORKERS, n_ctx=_N_CTX, residency="shards", plan="even", hub_share=0.0, log=lambda line: None
    ) as cell:
        tokens = np.arange(3, 3 + _PROMPT + _TOKENS, dtype=np.int32)
        cell.engine.forward(0, tokens[:_PROMPT])
        for token in tokens[_PROMPT:]:
            cell.engine.forward(0, np.array([token], np.int32))
        time.sleep(1.0)  # what is still being loaded
        share = share_of(model, _WORKERS)
        for number, pid in enumerate(cell._locals.pids, 1):
            resident = memory_of(pid, "Rss")
            more = (resident - share) / _MB
            print(f"| {number} | {share / _MB:.0f} MB | {resident / _MB:.0f} MB | {more:.0f} MB |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a worker's memory, and the time to open a model.")
    parser.add_argument("--shards", type=Path, metavar="MODEL", help="a cell of workers with a part of it each")
    args = parser.parse_args()
    if args.shards is None:
        print_opening()
    else:
        print_shards(args.shards)


if __name__ == "__main__":
    main()
