"""What fits into a device's memory, and a worker that is asked to hold what does not."""

from __future__ import annotations

import pytest
from cell_helpers import read_retained

from halo.cell import messages
from halo.cell.memory import Budget, free, parse_size, total
from halo.cell.messages import Profile
from halo.errors import CellError

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


def group(most, used):
    return {"sys/fs/cgroup/memory.max": f"{most}\n", "sys/fs/cgroup/memory.current": f"{used}\n"}


def test_free_memory_is_what_the_system_and_the_control_group_leave(system):
    meminfo = "MemTotal: 2000000 kB\nMemAvailable:   1000000 kB\n"
    assert free(system(meminfo=meminfo)) == 1024 * 10**6
    assert free(system(meminfo=meminfo, group=group("max", 5))) == 1024 * 10**6
    small = system(meminfo=meminfo, group=group(3 << 20, 1 << 20))
    assert (total(small), free(small)) == (3 << 20, 2 << 20)
    assert free(system(meminfo=meminfo, group=group(3 << 20, 4 << 20))) == 0


def test_a_system_that_tells_nothing_has_all_of_its_memory(tmp_path):
    assert free(tmp_path) == total(tmp_path) > 0


def test_what_does_not_fit_is_named_with_what_to_try():
    Budget(2 * GB).check(GB, GB // 2)
    with pytest.raises(CellError, match=r"2\.56 GB .*1\.50 GB of weights.*2\.00 GB that it may.*--residency"):
        Budget(2 * GB).check(3 * GB // 2, GB)
    with pytest.raises(CellError, match="are free"):
        Budget().check(10**15, 0)
    Budget().check(10**15, 0, held=10**15)


def test_a_worker_without_room_refuses_before_it_loads_and_the_others_go_on(open_cell, start_worker, broker, loop):
    start_worker("a")
    start_worker("small", "--memory", "62M")
    with pytest.raises(CellError, match=r"small.*cannot load its part"):
        open_cell(broker=str(broker.address), workers=2)
    profile = messages.decode(Profile, read_retained(loop, broker.address)["halo/halo/device/small/profile"])
    assert profile.memory_bytes == 62 * 10**6
    cell = open_cell(broker=str(broker.address))
    assert [device["name"] for device in cell.report()["devices"]] == ["hub", "a"]
