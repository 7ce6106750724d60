"""Opening models leaves the process's stdout and stderr alone, also from several threads at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_OPEN_AT_ONCE = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from halo import HaloLlama
from tests.llama.oracle import Memory

streams, files = (sys.stdout, sys.stderr), [os.readlink(f"/proc/self/fd/{n}") for n in (1, 2)]
done = threading.Event()

def chatter():
    for number in range(100000):
        if done.is_set():
            break
        os.write(1, b"%d\\n" % number)

def open_and_close(_):
    HaloLlama(sys.argv[1], engine=Memory(int(sys.argv[2]), n_ctx=256)).close()

talking = threading.Thread(target=chatter)
talking.start()
with ThreadPoolExecutor(6) as pool:
    list(pool.map(open_and_close, range(24)))
done.set()
talking.join()
assert (sys.stdout, sys.stderr) == streams
assert [os.readlink(f"/proc/self/fd/{n}") for n in (1, 2)] == files
"""


def test_opening_at_once_changes_no_stream_and_loses_nothing_that_others_print(model_path: Path) -> None:
    from llama_cpp import Llama

    plain = Llama(str(model_path), vocab_only=True, verbose=False)
    n_vocab = plain.n_vocab()
    plain.close()
    command = [sys.executable, "-c", _OPEN_AT_ONCE, str(model_path), str(n_vocab)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert shown.returncode == 0, shown.stderr
    numbers = [int(line) for line in shown.stdout.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert shown.stderr == ""


def test_an_ordinary_llama_is_still_silenced_its_own_way(model_path: Path) -> None:
    code = "import halo.llama, sys; from llama_cpp import Llama; Llama(sys.argv[1], vocab_only=True, verbose=False)"
    command = [sys.executable, "-c", code, str(model_path)]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, "")
