"""`halo doctor`: what hurts HALO on this device, at its broker and in its cell, and what mends it.

A check is a small function that returns a `Finding`. It reads through a `System`, so that a test can bring a tree
of files; nothing needs root, and what cannot be read is `unknown`, with the reason.
"""

from __future__ import annotations

from halo.doctor import machine, network, software
from halo.doctor.finding import Finding
from halo.doctor.models import ModelFile
from halo.doctor.system import System

__all__ = ["Finding", "System", "examine_device"]


def examine_device(
    system: System, *, model: ModelFile | None = None, tls: bool = False, broker_ip: str | None = None
) -> list[Finding]:
    """All findings about this device. `tls`: whether the broker's certificate depends on the clock."""
    return [
        network.rto_min(system, broker_ip),
        network.congestion(system),
        network.wifi_power_save(system),
        network.wifi_signal(system),
        network.udp_buffers(system),
        machine.governor(system),
        machine.throttling(system),
        machine.memory(system, model),
        machine.swap(system),
        machine.clock(system, tls),
        software.kernels(system),
        software.libcrypto(system),
        software.versions(system),
    ]
