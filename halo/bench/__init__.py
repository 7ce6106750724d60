"""Measures this machine: kernels and whole models, next to llama.cpp in the same run where it is installed."""

from __future__ import annotations

from halo.bench.kernels import bench_kernels, print_kernels
from halo.bench.model import bench_model, print_model

__all__ = ["bench_kernels", "bench_model", "print_kernels", "print_model"]
