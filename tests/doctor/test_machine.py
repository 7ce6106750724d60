"""The checks of hardware and memory, on made-up systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from halo.doctor import machine
from halo.doctor.models import ModelFile, read_model

CPU = "sys/devices/system/cpu/cpu0/cpufreq/"
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
HEAT = "sys/class/thermal/thermal_zone0/temp"
PI = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}
ASK = "vcgencmd get_throttled"


def model(size, cache=0):
    return ModelFile(Path("m.gguf"), "m", "0" * 64, size, 2048, cache)


def meminfo(total, available, swap=0, free=0):
    lines = {"MemTotal": total, "MemAvailable": available, "SwapTotal": swap, "SwapFree": free}
    return {"proc/meminfo": "".join(f"{name}:  {int(gb * 1e9) >> 10} kB\n" for name, gb in lines.items())}


def test_a_governor_that_saves_power_costs_what_the_clock_may_fall(system):
    files = {CPU + "scaling_governor": "ondemand\n", CPU + "cpuinfo_min_freq": "600000\n"}
    found = machine.governor(system(files | {CPU + "cpuinfo_max_freq": "1800000\n"}))
    assert (found.name, found.status) == ("cpu-governor", "warn")
    assert "600 instead of 1800 MHz, that is up to 3.0 times slower" in found.why
    assert "scaling_governor" in found.mend[0]


def test_one_saving_core_of_several_is_found(system):
    other = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"
    files = {CPU + "scaling_governor": "performance\n", other: "powersave\n"}
    assert machine.governor(system(files)).measured == "performance (1), powersave (1): not performance"
    assert machine.governor(system({CPU + "scaling_governor": "performance\n", other: "performance\n"})).status == "ok"


def test_a_machine_that_does_not_tell_is_unknown(system):
    assert machine.governor(system()).status == "unknown"
    assert machine.throttling(system()).status == "unknown"
    assert machine.memory(system()).status == "unknown"
    assert machine.swap(system({"proc/meminfo": "MemTotal: 1 kB\n"})).status == "unknown"
    assert machine.throttling(system(PI)).status == "unknown"


@pytest.mark.parametrize(
    "bits, status, word",
    [
        *[("0", "ok", "neither"), ("50005", "bad", "voltage"), ("50000", "warn", "since the start")],
        *[("8", "bad", "too hot"), ("odd", "unknown", "odd")],
    ],
)
def test_the_firmware_tells_of_heat_and_weak_supplies(system, bits, status, word):
    by_file = machine.throttling(system({THROTTLED: bits + "\n"}))
    assert by_file.status == status and word in by_file.measured


def test_without_the_file_the_firmwares_program_is_asked(system):
    assert machine.throttling(system(PI, {ASK: "throttled=0x1\n"})).status == "bad"
    assert machine.throttling(system(PI, {ASK: "throttled=0x0\n"})).status == "ok"


@pytest.mark.parametrize("heat, status", [("61000", "ok"), ("84000", "warn"), ("x", "unknown")])
def test_any_machine_that_is_hot_is_warned_of(system, heat, status):
    assert machine.throttling(system({HEAT: heat})).status == status


def test_a_clock_matters_where_certificates_do(system):
    wrong = {"clock_is_synchronised": lambda: False}
    assert machine.clock(system(**wrong)).status == "ok"
    assert machine.clock(system(**wrong), tls=True).mend[0] == "sudo timedatectl set-ntp true"
    assert machine.clock(system(), tls=True).status == "ok"


@pytest.mark.parametrize("size, status", [(1e9, "ok"), (3e9, "warn"), (5e9, "bad")])
def test_a_model_is_compared_with_free_and_with_all_memory(system, size, status):
    found = machine.memory(system(meminfo(4, 2)), model(int(size), cache=10**8))
    assert found.status == status
    assert ("llama-quantize" in " ".join(found.mend)) == (status != "ok")


def test_a_long_context_that_few_texts_fill_is_no_reason_for_another_model(system):
    found = machine.memory(system(meminfo(4, 2)), model(10**9, cache=3 * 10**9))
    assert found.status == "warn" and found.mend == ("halo generate -c 512 ...   # on the hub: a context that fits",)


def test_a_service_with_a_limit_has_no_more_than_that(system):
    group = "sys/fs/cgroup/halo.service/memory."
    limit = {group + "max": "900000000", group + "current": "0", "proc/self/cgroup": "0::/halo.service"}
    found = machine.memory(system(meminfo(4, 2) | limit), model(10**9))
    assert found.status == "bad" and found.measured.startswith("0.90 GB of 0.90 GB are free")


def test_a_model_needs_its_weights_and_its_caches(tiny_model):
    read = read_model(tiny_model())
    assert read.cache_bytes > 0
    assert read.resident_bytes > read.size + read.cache_bytes


def test_swapped_out_memory_is_warned_of_and_idle_swap_is_not(system):
    assert machine.swap(system(meminfo(4, 2, swap=2, free=2))).status == "ok"
    files = meminfo(4, 2, swap=2, free=1) | {"proc/swaps": "Filename Type Size\n/var/swap file 1 1 -2\n"}
    found = machine.swap(system(files))
    assert found.status == "warn" and "/var/swap" in found.measured
