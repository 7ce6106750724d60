"""Shares of a core, by the kernel's CPU quotas (cgroup v1, cpu.cfs_quota_us)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lab import LabError

_PERIOD_US = 5000
_LEAST_US = 1000  # what the kernel takes as a quota


def _mounted() -> Path:
    """Where the controller `cpu` is; raises LabError where it is not."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            return Path(where)
    raise LabError(
        "There is no cgroup v1 with the controller cpu (a system with cgroup v2 alone?): "
        "sudo mount -t cgroup -o cpu cgroup /sys/fs/cgroup/cpu."
    )


def period_us(share: float) -> int:
    """5 ms, or as much longer as the kernel's least quota asks for."""
    return max(_PERIOD_US, round(_LEAST_US / share))


@contextlib.contextmanager
def quotas(shares: dict[int, float]) -> Iterator[None]:
    """Processes, by their id, have such shares of one core meanwhile; all their threads together."""
    root = _mounted()
    groups: list[Path] = []
    try:
        for pid, share in shares.items():
            group = root / f"halo-trouble-{os.getpid()}-{pid}"
            try:
                group.mkdir()
                groups.append(group)
                (group / "cpu.cfs_period_us").write_text(str(period_us(share)))
                (group / "cpu.cfs_quota_us").write_text(str(round(share * period_us(share))))
                (group / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                raise LabError(f"A CPU quota cannot be set in {root}: {error.strerror}.") from None
        yield
    finally:
        for group in groups:
            for left in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (root / "cgroup.procs").write_text(left)
            with contextlib.suppress(OSError):
                group.rmdir()
