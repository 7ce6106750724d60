"""A large vocabulary is not a worker's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.memory import idle_worker, private_bytes
from tests.conftest import TinyModel
from tests.tiny_gguf import large_vocabulary


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell private memory")
def test_a_worker_opens_a_large_vocabulary_in_little_memory(tiny_model: TinyModel) -> None:
    with idle_worker(tiny_model("Q8_0", large_vocabulary())) as pid:
        assert private_bytes(pid) < 60e6
        assert "numpy" not in Path(f"/proc/{pid}/maps").read_text()
