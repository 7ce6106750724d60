"""What of HALO's own software, and of what it stands on, is missing or not the best that runs here."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import halo
from halo.cell.messages import PROTOCOL
from halo.doctor.finding import Finding, Unreadable, bad, named, ok, warn
from halo.doctor.system import System

_VECTORS = {"x86_64": ("flags", "avx2"), "aarch64": ("Features", "asimd")}
"""Where /proc/cpuinfo lists what the processor has, and the word for the vectors that kernels are written for."""


@named("kernels")
def kernels(system: System, native: Any = None) -> Finding:
    """Which kernel variant computes, and whether it is the best one for this processor."""
    try:
        native = native or import_module("halo._native")
        usable = list(native.variants())
        chosen = native.isa()
    except ImportError as error:
        return bad(
            f"the native module cannot be loaded: {error}",
            "nothing can be computed without it",
            "pip install --force-reinstall --no-cache-dir ./halo-llm   # your clone; it compiles the module",
        )
    except ValueError as error:
        return bad(str(error), "no model can be opened with this value of the variable", "unset HALO_ISA")
    measured = f"{chosen} (of {', '.join(usable)})"
    if chosen != usable[0]:
        return warn(
            f"{measured}, by HALO_ISA={os.environ.get('HALO_ISA', '')}",
            f"{usable[0]} computes several times faster than portable code: 'halo bench kernels' measures both",
            "unset HALO_ISA",
        )
    if chosen == "portable" and (vectors := _vectors(system)):
        return warn(
            f"{measured}, although the processor has {vectors}",
            "portable kernels are several times slower than those written for the processor's vectors",
            "# a newer HALO may have kernels for this processor; in your clone:",
            "git pull && pip install --force-reinstall --no-cache-dir .",
        )
    return ok(measured)


def _vectors(system: System) -> str:
    """`avx2` or `asimd` (NEON) where the processor has them; nothing where it does not, or does not tell."""
    key, word = _VECTORS.get(system.machine, ("", ""))
    for line in system.try_read("proc/cpuinfo").splitlines():
        name, _, words = line.partition(":")
        if key and name.strip() == key and word in words.split():
            return word
    return ""


@named("libcrypto")
def libcrypto(system: System, native: Any = None) -> Finding:
    """Whether the system's libcrypto can be opened at run time, and has what seals datagrams."""
    try:
        why = (native or import_module("halo._native")).sealing_unavailable()
    except ImportError:
        raise Unreadable("the native module cannot be loaded") from None
    if why is None:
        return ok("opened, and datagrams can be sealed with it")
    return warn(
        why,
        "datagrams are sealed with it; without it partials travel over MQTT only, where one lost packet can stall a "
        "token for 200 ms",
        "sudo apt install libssl3t64 || sudo apt install libssl3   # Debian 13, Debian 12",
    )


@named("versions")
def versions(system: System) -> Finding:
    """HALO, its protocol, Python and the machine; and whether the hub's front end is installed."""
    try:
        front_end = f"llama-cpp-python {version('llama-cpp-python')}"
    except PackageNotFoundError:
        front_end = "no llama-cpp-python (a hub needs it: pip install './halo-llm[hub]')"
    page = os.sysconf("SC_PAGE_SIZE") >> 10
    kernel = system.try_read("proc/sys/kernel/osrelease") or platform.release()
    return ok(
        f"halo {halo.__version__}, protocol {PROTOCOL}, Python {platform.python_version()}, {front_end}; "
        f"{system.machine}, Linux {kernel}, pages of {page} KiB"
    )
