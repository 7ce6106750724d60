#!/usr/bin/env python3
"""Prints what it takes to load a model of TinyLlama's shape whose weights have types that are converted, and its speed.

python benchmarks/convert.py                  # IQ4_XS, Q2_K, and Q4_K to compare with
python benchmarks/convert.py IQ4_XS IQ4_NL
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for tests.tiny_gguf; last, so that an installed halo stays the one that is measured

from benchmarks.make_model import TINYLLAMA  # noqa: E402
from halo import _native  # noqa: E402
from halo.model import open_model  # noqa: E402
from tests.tiny_gguf import KINDS, write_tiny  # noqa: E402

_PASSES, _TOKENS = 5, 12
_HEAD = "| type | file | becomes | in memory | to load, CPU | the process's most, beside | a token, one thread |"


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(path: Path) -> dict[str, float | str]:
    """In a process of its own: memory and time of loading, then the time of tokens."""
    model = open_model(path)
    start = cpu_s()
    model.native.load()
    found: dict[str, float | str] = {
        "targets": " and ".join(sorted({t.target for t in model.converted.tensors.values()})),
        "cpu_s": cpu_s() - start,
        "held": model.native.held_bytes(),
        "beside": peak_bytes() - model.native.held_bytes(),
    }
    engine = _native.Engine(model.native, 64, threads=1)
    engine.forward(0, np.arange(3, 7, dtype=np.int32), True)
    times = []
    for i in range(_TOKENS):
        begin = time.perf_counter()
        engine.forward(0, np.array([5 + i], np.int32), True)
        times.append(time.perf_counter() - begin)
    found["token_ms"] = 1000 * statistics.median(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure models whose weights are converted when they are loaded.")
    parser.add_argument("types", nargs="*", metavar="TYPE", help=f"{', '.join(KINDS)} (default: IQ4_XS Q2_K Q4_K)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    kinds = args.types or ["IQ4_XS", "Q2_K", "Q4_K"]
    if wrong := set(kinds).difference(KINDS):
        parser.error(f"no such type: {', '.join(sorted(wrong))}")
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    print(_HEAD, "| --- " * 7 + "|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: write_tiny(Path(folder) / f"{kind}.gguf", kind, TINYLLAMA) for kind in kinds}
        command = [sys.executable, __file__, "--one"]
        passes = [
            {kind: json.loads(subprocess.check_output([*command, str(path)])) for kind, path in files.items()}
            for _ in range(_PASSES)  # in turns, so that what else the machine does hits all of them
        ]
        for kind, path in files.items():
            found = {
                key: statistics.median(one[kind][key] for one in passes) for key in ("cpu_s", "beside", "token_ms")
            }
            held, targets = passes[0][kind]["held"], passes[0][kind]["targets"]
            print(
                f"| {kind} | {path.stat().st_size / 1e9:.2f} GB | {targets or '-'} | {held / 1e9:.2f} GB | "
                f"{found['cpu_s']:.1f} s | {found['beside'] / 1e6:.0f} MB | {found['token_ms']:.0f} ms |"
            )


if __name__ == "__main__":
    main()
