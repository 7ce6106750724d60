"""Measures this machine: kernels and whole models, next to llama.cpp in the same run where it is installed."""

from __future__ import annotations

from halo.bench.kernels import bench_kernels, print_kernels

__all__ = ["bench_kernels", "print_kernels"]
