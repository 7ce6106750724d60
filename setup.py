"""Builds `halo._native` with CMake; all other metadata is in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()

if sys.maxsize < 2**32 or sys.byteorder != "little":
    bits = 64 if sys.maxsize > 2**32 else 32
    sys.exit(
        f"HALO needs a 64-bit little-endian system; this Python is a {bits}-bit program, {sys.byteorder}-endian "
        f"({sysconfig.get_platform()}). On a Raspberry Pi 3, 4 or 5: install the 64-bit Raspberry Pi OS."
    )


class CMakeBuild(build_ext):
    """Configure and build the native module, and put it where setuptools expects an extension."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # Kept between builds, so that the next one compiles only what changed.
        build = ROOT / "build" / f"native-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(build),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DHALO_OUTPUT_DIR={target.parent}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)], check=True)


# Folder in the package: folder in the source, and which files. halo.model.demo and halo.bench.lab find them in either.
EXTRAS = {"demo": ("models", ["halo-demo-q8_0.gguf"]), "lab": ("benchmarks/lab", ["*.py", "*.c"])}


class BuildWithExtras(build_py):
    """Put the demo model and the laboratory into the package; an editable install finds them in the source."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder, (source, patterns) in EXTRAS.items():
                target = Path(self.build_lib) / "halo" / folder
                shutil.rmtree(target, ignore_errors=True)  # of an earlier build
                target.mkdir(parents=True)
                for file in [file for pattern in patterns for file in (ROOT / source).glob(pattern)]:
                    shutil.copy2(file, target)


setup(
    packages=find_packages(include=["halo", "halo.*"]),
    package_data={"halo": ["py.typed", "*.pyi", "predictor/*.txt"]},
    ext_modules=[Extension("halo._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildWithExtras},
)
