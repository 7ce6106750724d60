"""The checks of HALO's own software."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from halo.doctor import software

AVX2 = "flags\t\t: fpu sse avx avx2 fma\n"
NEON = "Features\t: fp asimd evtstrm\n"


def native(chosen, *usable):
    def isa():
        if isinstance(chosen, Exception):
            raise chosen
        return chosen

    return SimpleNamespace(isa=isa, variants=lambda: list(usable))


def test_the_best_variant_is_fine_and_another_one_comes_of_the_variable(system, monkeypatch):
    assert software.kernels(system(), native("avx2", "avx2", "portable")).status == "ok"
    monkeypatch.setenv("HALO_ISA", "portable")
    found = software.kernels(system(), native("portable", "avx2", "portable"))
    assert (found.status, found.mend) == ("warn", ("unset HALO_ISA",))
    assert "HALO_ISA=portable" in found.measured
    unknown = software.kernels(system(), native(ValueError("HALO_ISA=x: no such kernel variant"), "portable"))
    assert unknown.status == "bad"


@pytest.mark.parametrize("machine, info", [("x86_64", AVX2), ("aarch64", NEON)])
def test_portable_kernels_on_a_processor_with_vectors_are_warned_of(system, machine, info):
    only = native("portable", "portable")
    assert software.kernels(system({"proc/cpuinfo": info}, machine=machine), only).status == "warn"
    assert software.kernels(system({"proc/cpuinfo": "flags : fpu\n"}, machine=machine), only).status == "ok"
    assert software.kernels(system(machine="riscv64"), only).status == "ok"


def test_libcrypto_needs_what_seals(system):
    def told(why):
        return software.libcrypto(system(), SimpleNamespace(sealing_unavailable=lambda: why))

    assert told(None).status == "ok"
    assert (told("no libcrypto").status, told("no libcrypto").measured) == ("warn", "no libcrypto")
    assert "apt install" in told("no libcrypto").mend[0]


def test_versions_are_listed(system):
    found = software.versions(system())
    assert found.status == "ok"
    assert "protocol" in found.measured and "pages of" in found.measured
