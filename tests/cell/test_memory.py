"""What fits into a device's memory, and a worker that is asked to hold what does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from cell_helpers import read_retained

from halo.cell import messages, worker
from halo.cell.memory import Budget, parse_size
from halo.cell.messages import Profile
from halo.cell.worker import WorkerService
from halo.errors import CellError
from halo.memory import free, total

GB = 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [("1500M", 1500 * 10**6), ("1.5G", 1500 * 10**6), ("2GiB", 2 << 30), (" 4 gb ", 4 * GB), ("4000000000", 4 * GB)],
)
def test_amounts_of_memory_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "1T", "0.5", "0", "1.5.2G", "9" * 400])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ValueError, match="amount of memory"):
        parse_size(text)


@pytest.fixture
def system(tmp_path):
    """Writes files of /proc and /sys; returns the folder that they are below."""

    def write(**files):
        for name, text in {"proc/meminfo": files.get("meminfo", ""), **files.get("group", {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def group(most, used, folder="", files=0):
    at = f"sys/fs/cgroup/{folder}"
    stat = f"anon 1\nactive_file {files}\ninactive_file {files}\n"
    return {f"{at}/memory.max": f"{most}\n", f"{at}/memory.current": f"{used}\n", f"{at}/memory.stat": stat}


def test_free_memory_is_what_the_system_and_the_control_groups_leave(system):
    meminfo = "MemTotal: 2000000 kB\nMemAvailable:   1000000 kB\n"
    assert free(system(meminfo=meminfo)) == 1024 * 10**6
    assert free(system(meminfo=meminfo, group=group("max", 5))) == 1024 * 10**6
    small = system(meminfo=meminfo, group=group(3 << 20, 1 << 20))
    assert (total(small), free(small)) == (3 << 20, 2 << 20)
    assert free(system(meminfo=meminfo, group=group(3 << 20, 4 << 20))) == 0
    assert free(system(meminfo=meminfo, group=group(3 << 20, 4 << 20, files=1 << 20))) == 1 << 20
    within = {"proc/self/cgroup": "0::/system.slice/halo.service\n"}
    nested = group(2 << 20, 1 << 20, "system.slice") | group("max", 9, "system.slice/halo.service") | within
    assert total(system(meminfo=meminfo, group=nested)) == 2 << 20
    escaped = {"proc/self/cgroup": "0::/../../etc\n"}
    assert total(system(meminfo=meminfo, group=escaped)) == 2048 * 10**6


def test_a_system_that_tells_nothing_has_all_of_its_memory(tmp_path):
    assert free(tmp_path) == total(tmp_path) > 0


def test_what_does_not_fit_is_named_with_what_to_try():
    assert Budget(2 * GB).check(GB, GB // 2) == ""
    with pytest.raises(CellError, match=r"needs 2\.06 GB for weights.*2\.00 GB that it may.*--residency"):
        Budget(2 * GB).check(2 * GB, 0)
    with pytest.raises(CellError, match="are free"):
        Budget().check(10**15, 0)
    assert Budget().check(10**15, 0, held=10**15) == ""
    with pytest.raises(ValueError, match="less than a worker takes"):
        Budget(10**7)


def test_a_context_that_would_not_fit_when_it_is_full_is_said_and_not_refused():
    """Llama 3.2 takes 4 GB of caches for its 131072 positions, which next to nobody fills."""
    assert "4.29 GB more" in Budget(2 * GB).check(GB, 4290 * 10**6)


def test_a_worker_without_room_refuses_before_it_loads_and_serves_once_there_is_some(
    open_cell, start_worker, broker, loop
):
    start_worker("a")
    start_worker("small", "--memory", "62M")
    with pytest.raises(CellError, match=r"small.*cannot load its part"):
        open_cell(broker=str(broker.address), workers=2)
    profile = messages.decode(Profile, read_retained(loop, broker.address)["halo/halo/device/small/profile"])
    assert profile.memory_bytes == 62 * 10**6
    cell = open_cell(broker=str(broker.address))
    assert [device["name"] for device in cell.report()["devices"]] == ["hub", "a"]


def test_a_worker_looks_again_whether_there_is_room(monkeypatch):
    class Service(WorkerService):
        def __init__(self):
            self._profile = Profile(
                name="a", incarnation="0" * 16, isa="", threads=1, cores=1, memory_bytes=0, exchanges=[], model=None,
                session="", state="loading", reason="",
            )  # fmt: skip
            self._log = said.append
            self._residence = SimpleNamespace(room=room)

        async def _publish_if_up(self):
            states.append(self._profile.state)

    def room(shard, positions):
        if tries.pop():
            raise CellError("it needs 2 GB for weights, more than the 1 GB that are free")
        return ""

    states, said, tries = [], [], [False, True, True]
    monkeypatch.setattr(worker, "_ROOM_S", 0)
    service = Service()
    lease = SimpleNamespace(n_ctx=64, slots=1, session="5" * 16)
    asyncio.run(service._wait_for_room(lease, (0, 1)))
    assert (states, len(said), service._profile.state) == (["refused", "refused"], 1, "loading")
