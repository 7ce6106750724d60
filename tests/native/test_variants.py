"""Whole models with each kernel variant: the same within rounding, the same bits with any threads, little memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from halo import _native
from halo.model import open_model
from tests.conftest import TinyModel
from tests.tiny_gguf import K_SHAPE, Shape, write_tiny

SCRIPT = """
import sys
import numpy as np
from halo import _native
from halo.model import open_model
path, out, threads = sys.argv[1:]
engine = _native.Engine(open_model(path).native, 128, threads=int(threads))
np.save(out, engine.forward(0, np.arange(3, 103, dtype=np.int32), True))
"""


def logits(isa: str, path: Path, out: Path, threads: int = 1) -> NDArray[np.float32]:
    environment = {**os.environ, "HALO_ISA": isa}
    subprocess.run([sys.executable, "-c", SCRIPT, path, out, str(threads)], env=environment, check=True, timeout=120)
    return np.load(out)


@pytest.mark.parametrize("isa", _native.variants())
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K", "Q3_K+IQ4_XS", "Q45"])
def test_every_variant_runs_every_kind_of_model(isa: str, kind: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tiny_model(kind, K_SHAPE if "_K" in kind else None)
    ours = logits(isa, path, tmp_path / "ours.npy", threads=2)
    reference = logits("portable", path, tmp_path / "reference.npy")
    tolerance = {"F32": 2e-3, "F16": 2e-2, "BF16": 5e-2}.get(kind, 0.1)  # a rounding of activations becomes a step
    assert np.abs(ours - reference).max() < tolerance * np.abs(reference).max()
    assert np.array_equal(ours, logits(isa, path, tmp_path / "alone.npy", threads=1))


def test_a_variant_that_is_unknown_is_an_error_that_names_the_known_ones() -> None:
    code = "from halo import _native; _native.isa()"
    environment = {**os.environ, "HALO_ISA": "sse9"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "HALO_ISA=sse9" in done.stderr and "portable" in done.stderr


RESIDENT = """
import re, sys
from pathlib import Path
from halo import _native
from halo.model import open_model
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = resident()
model = open_model(sys.argv[1])
model.native.load()
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "F16"])
def test_packed_weights_are_not_in_memory_twice(kind: str, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "larger.gguf", kind, Shape(d=2048, n_layers=2, n_heads=16, n_kv_heads=4, ff=8192))
    done = subprocess.run([sys.executable, "-c", RESIDENT, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1.05 * path.stat().st_size + (2 << 20)


THREADS = """
import re, resource, sys
from pathlib import Path
from halo import _native
from halo.model import open_model
worker = _native.Worker(open_model(sys.argv[1]).native, 256)
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))  # stacks of a few threads
try:
    worker.open(1, 64, 1)
except _native.NativeError as e:
    print(e)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_threads_that_the_system_refuses_are_an_error_that_says_how_many_there_were(tiny_model: TinyModel) -> None:
    path = tiny_model("Q4_0")
    done = subprocess.run([sys.executable, "-c", THREADS, path], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"the system gives only \d+ of 256 threads \(.+\): ask for fewer\n", done.stdout), done.stderr


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error_that_says_so(
    scale: float, tiny_model: TinyModel, tmp_path: Path
) -> None:
    good = open_model(tiny_model("Q4_0"))
    damaged = bytearray(good.path.read_bytes())
    at = good.file.tensors["blk.1.ffn_up.weight"].offset
    damaged[at : at + 2] = np.float16(scale).tobytes()
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    engine = _native.Engine(open_model(path).native, 32)
    with pytest.raises(_native.NativeError, match="not finite"):
        engine.forward(0, np.arange(3, 8, dtype=np.int32))


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
@pytest.mark.parametrize("name", ["output.weight", "output_norm.weight"])
def test_logits_that_are_not_finite_are_an_error_that_names_the_file(
    name: str, kind: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    good = open_model(tiny_model(kind))
    damaged = bytearray(good.path.read_bytes())
    tensor = good.file.tensors[name]
    value = np.float32(np.nan) if tensor.type_name == "F32" else np.float16(np.nan)
    damaged[tensor.offset : tensor.offset + value.nbytes] = value.tobytes()
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    engine = _native.Engine(open_model(path).native, 32)
    for all_logits in (False, True):
        with pytest.raises(_native.NativeError, match=r"the output head .*not finite: the model file may be damaged"):
            engine.forward(0, np.arange(3, 8, dtype=np.int32), all_logits)
        assert engine.n_past(0) == 0
