"""Nothing is left behind, however a hub or a worker ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cell_helpers import HANG_S, alive, children, eventually, publish, read_retained, retain
from fake_native import Model

from halo.cell import messages
from halo.cell.broker import _spawn_mosquitto, find_mosquitto, free_port


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_local_workers_and_broker_end_with_the_hub(start_hub, number):
    hub = start_hub("compute")
    pids = children(hub.pid)
    assert len(pids) == 3
    hub.send_signal(number)
    hub.wait(HANG_S)
    eventually(lambda: not [pid for pid in pids if alive(pid)])


def test_ctrl_c_reaches_the_hub_only(start_hub):
    """The terminal signals its whole foreground group: workers and broker must not be in it."""
    hub = start_hub("compute")
    sessions = {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3] for pid in children(hub.pid)}
    assert str(hub.pid) not in sessions
    assert len(sessions) == 3  # one each: hence no controlling terminal, and no process group in common


def test_a_cell_that_nobody_closes_is_closed_at_exit(start_hub):
    hub = start_hub("leave-it-to-exit")
    assert hub.wait(HANG_S) == 0
    assert "Traceback" not in hub.stderr.read()


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lease_of_a_hub_that_ends_is_cleared_and_workers_wait_for_the_next(
    start_hub, start_worker, broker, loop, number
):
    worker = start_worker("a")
    hub = start_hub("compute", str(broker.address))
    eventually(lambda: "serving session" in worker.log.read_text())
    hub.send_signal(number)
    hub.wait(HANG_S)
    eventually(lambda: "the hub has left" in worker.log.read_text())
    assert set(read_retained(loop, broker.address)) == {"halo/halo/device/a/profile"}
    assert worker.poll() is None


def test_a_killed_worker_leaves_no_profile(start_worker, broker, loop):
    worker = start_worker("a")
    assert set(eventually(lambda: read_retained(loop, broker.address))) == {"halo/halo/device/a/profile"}
    worker.kill()
    eventually(lambda: not read_retained(loop, broker.address))
    assert worker.wait() == -signal.SIGKILL  # so that nobody but the broker can have cleared it


def test_of_two_workers_with_one_name_the_newest_stays(start_worker, broker, view):
    old = start_worker("a")
    eventually(lambda: "is in the cell" in old.log.read_text())
    new = start_worker("a")
    assert old.wait(HANG_S) == 1
    assert "took the name 'a'" in old.log.read_text()
    time.sleep(0.5)
    assert new.poll() is None
    assert set(view().roster.profiles) == {"a"}  # the one that left did not clear the other's profile


def test_a_profile_that_is_cleared_by_mistake_is_put_back(start_worker, broker, loop):
    start_worker("a")
    before = eventually(lambda: read_retained(loop, broker.address))
    retain(loop, broker.address, "halo/halo/device/a/profile", b"")
    assert eventually(lambda: read_retained(loop, broker.address)) == before
    assert set(before) == {"halo/halo/device/a/profile"}


def test_a_worker_without_a_broker_gives_up(start_worker):
    worker = start_worker("a", url="mqtt://127.0.0.1:9")
    assert worker.wait(HANG_S) == 1
    assert "error: Cannot reach the MQTT broker at mqtt://127.0.0.1:9: Connection refused" in worker.log.read_text()


def test_a_worker_finds_a_broker_that_comes_while_it_still_tries(start_worker):
    port = free_port()
    worker = start_worker("a", url=f"mqtt://127.0.0.1:{port}")
    eventually(lambda: "started" in worker.log.read_text())
    time.sleep(0.5)
    assert "is in the cell" not in worker.log.read_text() and worker.poll() is None
    child = _spawn_mosquitto(find_mosquitto(), port)
    eventually(lambda: "is in the cell" in worker.log.read_text())
    assert worker.poll() is None
    child.terminate()


def test_a_worker_that_waits_finds_a_broker_that_comes_later(start_worker):
    port = free_port()
    worker = start_worker("a", "--wait", url=f"mqtt://127.0.0.1:{port}")
    time.sleep(6.5)
    assert worker.poll() is None
    assert worker.log.read_text().count("waiting for the broker") == 1
    child = _spawn_mosquitto(find_mosquitto(), port)
    eventually(lambda: "is in the cell" in worker.log.read_text())
    child.terminate()


def test_no_worker_is_called_hub(start_worker):
    worker = start_worker("hub")
    assert worker.wait(HANG_S) == 1
    assert "cannot be called 'hub'" in worker.log.read_text()


def test_a_worker_survives_garbage_and_leases_it_cannot_serve(start_worker, broker, loop, view, model):
    worker = start_worker("a")
    eventually(lambda: "is in the cell" in worker.log.read_text())
    for payload in (b"\xff" * 100, b"{}", b"[" * 60000, b'{"protocol":4}', b"0" * 70000, b"null"):
        publish(loop, broker.address, "halo/halo/hub", payload)
        publish(loop, broker.address, "halo/halo/device/a/request", payload)
        publish(loop, broker.address, "halo/halo/device/a/profile", payload)
    huge = messages.Lease(
        session="1" * 16,
        hub="h",
        model=messages.ModelId(Model(model).identity, "m", "m.gguf"),
        n_ctx=2**30,
        slots=1,
        partials="fixed",
        since=0.0,
    )
    retain(loop, broker.address, "halo/halo/hub", messages.encode(huge))
    eventually(lambda: (p := view().roster.profiles.get("a")) and p.state == "refused")
    assert worker.poll() is None
    assert "speaks protocol 4" in worker.log.read_text()


@pytest.mark.parametrize("module", ["halo.exchange.mqtt", "halo.cell.session", "halo.cell.connection", "halo.cell"])
def test_a_module_can_be_imported_alone(module):
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)


def test_a_worker_imports_nothing_that_only_the_hub_needs():
    code = "import sys, halo.cli, halo.cell; print({'llama_cpp', 'amqtt'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
