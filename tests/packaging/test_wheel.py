"""What `pip install .` installs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_a_wheel_has_the_native_module_the_demo_model_the_laboratory_and_types(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=280)
    (wheel,) = tmp_path.glob("halo_llm-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.startswith("halo/_native.") and n.endswith(".so") for n in names)
    assert {
        "halo/py.typed",
        "halo/_native.pyi",
        "halo/demo/halo-demo-q8_0.gguf",
        "halo/predictor/calibration.txt",
    } <= set(names)
    assert [n for n in names if n.endswith(".gguf")] == ["halo/demo/halo-demo-q8_0.gguf"]
    assert {"halo/lab/__init__.py", "halo/lab/switch.c"} <= set(names)
    assert not any(n.startswith(("tests/", "models/", "native/")) for n in names)
    assert wheel.stat().st_size < 20 << 20


def test_a_worker_does_not_import_the_hubs_packages() -> None:
    code = "import halo.cell.worker, halo.cli, sys; print(sorted({'llama_cpp', 'amqtt', 'torch'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("other", ["sys.maxsize = 2**31 - 1", "sys.byteorder = 'big'"])
def test_systems_that_are_not_64_bit_and_little_endian_are_refused_by_name(other: str) -> None:
    code = f"import sys; {other}; __file__ = 'setup.py'; exec(open(__file__).read())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "64-bit little-endian" in done.stderr and "Raspberry Pi" in done.stderr
