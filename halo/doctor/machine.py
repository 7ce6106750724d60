"""What this device's hardware and its settings cost HALO: clock speed, heat, power, memory, time of day."""

from __future__ import annotations

import shlex

from halo.doctor.finding import Finding, Unreadable, bad, named, ok, warn
from halo.doctor.models import ModelFile
from halo.doctor.system import System
from halo.memory import free, meminfo, total
from halo.words import gigabytes

_CPUFREQ = "sys/devices/system/cpu/{}/cpufreq/"
_HOT_C = 80
"""A Raspberry Pi slows down from here on."""
_SWAPPED = 0.05
"""Of the memory: what any system swaps out in idle hours is no concern."""
_CONTEXT_STEP = 256
"""A context is rounded up to whole ones of these."""
_NOW = {0: "the supply voltage is too low", 1: "the clock is capped", 2: "it is throttled", 3: "it is too hot"}
_SINCE_START = 16
"""The same bits, this much higher: it has happened since the start."""


@named("cpu-governor")
def governor(system: System) -> Finding:
    """Whether the processors may slow down in the pauses between two requests."""
    governors: dict[str, str] = {}
    for path in system.find("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"):
        governors[path.split("/")[4]] = system.read(path)
    if not governors:
        raise Unreadable("this machine does not tell (a virtual one does not, as a rule)")
    saving = {cpu: name for cpu, name in governors.items() if name != "performance"}
    measured = ", ".join(f"{name} ({list(governors.values()).count(name)})" for name in sorted(set(governors.values())))
    if not saving:
        return ok(measured)
    cpu = next(iter(saving))
    try:
        low = system.number(_CPUFREQ.format(cpu) + "cpuinfo_min_freq") // 1000
        high = system.number(_CPUFREQ.format(cpu) + "cpuinfo_max_freq") // 1000
        figure = f"at {low} instead of {high} MHz, that is up to {high / low:.1f} times slower"
    except (Unreadable, ZeroDivisionError):
        figure = "slowly"
    return warn(
        f"{measured}: not performance",
        "between two requests a worker waits for milliseconds, which the governor takes for idleness: the next request "
        f"begins {figure}",
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        "# until the next start: docs/doctor.md tells how to keep it",
    )


@named("throttling")
def throttling(system: System) -> Finding:
    """Whether heat or a weak power supply slows this device down, now or since it was started."""
    bits = _throttled(system)
    temperature = _temperature(system)
    shown = f", {temperature} °C" if temperature is not None else ""
    if bits is None:
        if temperature is None:
            raise Unreadable("this machine tells neither its temperature nor whether it is throttled")
        if temperature < _HOT_C:
            return ok(f"{temperature} °C")
        return warn(f"{temperature} °C", f"from {_HOT_C} °C on a Raspberry Pi slows down by itself", *_MORE_AIR)
    now = [text for bit, text in _NOW.items() if bits >> bit & 1]
    before = [text for bit, text in _NOW.items() if bits >> (bit + _SINCE_START) & 1]
    if not now and not before:
        return ok(f"neither now nor since the start{shown}")
    low_voltage = bits & (1 | 1 << _SINCE_START)
    mend = (*(_MORE_POWER if low_voltage else ()), *(_MORE_AIR if bits & ~(1 | 1 << _SINCE_START) else ()))
    why = (
        "the firmware lowers the clock (a Pi 4: from 1800 to 600 MHz at worst); every sync waits for the slowest device"
    )
    if now:
        return bad(f"now: {', '.join(now)}{shown}", why, *mend)
    return warn(f"since the start, not now: {', '.join(before)}{shown}", why, *mend)


_MORE_POWER = (
    "# use the official power supply (5.1 V; 3 A for a Pi 4, 5 A for a Pi 5) and its own cable, then look again:",
    "vcgencmd get_throttled",
)
_MORE_AIR = ("# fit a heat sink or a fan, or open the case, then look again:", "vcgencmd measure_temp")


def _throttled(system: System) -> int | None:
    """The firmware's bits; None on what is not a Raspberry Pi, Unreadable on one that does not tell."""
    for path in system.find("sys/devices/platform/soc*/*firmware/get_throttled"):
        if text := system.try_read(path):
            return _hex(text)
    if "Raspberry Pi" not in system.try_read("proc/device-tree/model"):
        return None
    return _hex(system.run(["vcgencmd", "get_throttled"]).strip().rpartition("=")[2])


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise Unreadable(f"the firmware says {text[:40]!r}") from None


def _temperature(system: System) -> int | None:
    values = []
    for path in system.find("sys/class/thermal/thermal_zone*/temp"):
        try:
            values.append(system.number(path) // 1000)
        except Unreadable:
            continue
    return max(values, default=None)


@named("clock")
def clock(system: System, tls: bool = False) -> Finding:
    """Whether somebody keeps this device's clock right; it matters with TLS, whose certificates have dates."""
    if system.clock_is_synchronised():
        return ok("synchronised")
    if not tls:
        return ok("not synchronised, which would matter with mqtts:// only")
    return warn(
        "not synchronised",
        "a device without a battery clock starts with a wrong date, and then refuses the broker's certificate as not "
        "yet valid",
        "sudo timedatectl set-ntp true",
        "timedatectl   # 'System clock synchronized: yes' after a minute, where an NTP server can be reached",
    )


@named("memory")
def memory(system: System, model: ModelFile | None = None) -> Finding:
    """Whether the model fits into this device's memory."""
    _meminfo(system)
    most, left = total(system.root), free(system.root)
    measured = f"{gigabytes(left)} of {gigabytes(most)} are free"
    if model is None:
        return ok(f"{measured} (with -m MODEL: compared with what that needs)")
    needed, caches = gigabytes(model.resident_bytes), gigabytes(model.cache_bytes)
    measured += f"; {model.name} needs {needed}, {caches} of it for {model.n_ctx} positions"
    if model.resident_bytes <= left:
        return ok(measured)
    if model.packed_bytes <= left:
        fitting = (left - model.packed_bytes) * model.n_ctx // model.cache_bytes // _CONTEXT_STEP * _CONTEXT_STEP
        return warn(
            measured,
            "a cache takes memory as a text fills it, which few do: one that fills this one is swapped, or the kernel "
            "ends HALO",
            f"halo generate -c {max(fitting, _CONTEXT_STEP)} ...   # on the hub: a context that fits",
        )
    smaller = (
        "# a smaller quantisation of the model:",
        f"llama-quantize --allow-requantize {shlex.quote(str(model.path))} smaller.gguf Q4_0",
    )
    if model.packed_bytes > most:
        return bad(
            measured, "every token reads every weight: those that do not fit come from the SD card each time", *smaller
        )
    return warn(
        measured + " (a HALO that runs already holds its part)",
        "every token reads every weight: those that do not fit are swapped, or the kernel ends HALO",
        "ps -eo rss,comm --sort=-rss | head   # who holds the memory",
        *smaller,
    )


@named("swap")
def swap(system: System) -> Finding:
    """Whether memory has been swapped out."""
    held = _meminfo(system)
    used = held.get("SwapTotal", 0) - held.get("SwapFree", 0)
    devices = [line.split()[0] for line in system.try_read("proc/swaps").splitlines()[1:] if line.split()]
    measured = f"{gigabytes(used)} swapped out" + (f" to {', '.join(devices)}" if devices else "; there is no swap")
    if used <= _SWAPPED * held["MemTotal"]:
        return ok(measured)
    return warn(
        measured,
        "a weight that was swapped out is read back within a token, from an SD card at some 40 MB/s instead of the "
        "memory's gigabytes",
        "ps -eo rss,comm --sort=-rss | head   # end what is not needed, then bring the rest back:",
        "sudo swapoff -a && sudo swapon -a",
    )


def _meminfo(system: System) -> dict[str, int]:
    """Bytes by name; Unreadable where /proc/meminfo lacks what every kernel since 3.14 has."""
    found = meminfo(system.root)
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        raise Unreadable("/proc/meminfo has no MemTotal and MemAvailable")
    return found
