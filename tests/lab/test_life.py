"""A laboratory comes and goes without a trace, and says what keeps it from coming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lab import Conditions, Lab, LabError, build, why_not
from tests.conftest import ROOT
from tests.lab.conftest import MakeLab, gone
from tests.lab.traffic import wire

_OWNER = """
import sys, time
from benchmarks.lab import Lab
lab = Lab(3)
print(lab.namespace(0), flush=True)
time.sleep(60)
"""


def test_nothing_is_left(can_make: None) -> None:
    with Lab(3) as lab:
        process = lab.namespace(0).parent.parent
        assert process.exists()
    assert gone(process)
    with pytest.raises(LabError, match="gone"), lab.inside(0):
        pass
    lab.close()


def test_nothing_is_left_when_the_owner_is_killed(can_make: None) -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        process = Path(owner.stdout.readline().strip()).parent.parent
        assert process.exists()
        owner.send_signal(signal.SIGKILL)
    assert gone(process)


def test_a_laboratory_that_cannot_stand_says_why(can_make: None) -> None:
    with pytest.raises(LabError, match="congestion"):
        Lab(2, congestion="nobody-knows-it")


def test_several_stand_side_by_side(make_lab: MakeLab) -> None:
    one, two = make_lab(2), make_lab(2, Conditions(loss=1))
    with wire(one, 0, 1) as first, wire(two, 0, 1) as second:
        first.send(10)
        second.send(10)
        first.await_arrivals(10)
    assert len(first.arrived) == 10
    assert not second.arrived


def test_this_thread_comes_back_from_a_host(make_lab: MakeLab) -> None:
    home = Path("/proc/thread-self/ns/net").readlink()
    lab = make_lab(2)
    with lab.inside(0):
        assert Path("/proc/thread-self/ns/net").readlink() != home
        with lab.inside(1):
            pass
    assert Path("/proc/thread-self/ns/net").readlink() == home


def test_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo" in (why_not() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(build.shutil, "which", lambda program, path: None)
    assert "sudo apt install gcc libc6-dev iproute2 util-linux" in (why_not() or "")
    with pytest.raises(LabError, match="apt install"):
        Lab(2)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"loss": 1.5}, "loss"),
        ({"delay_us": -1}, "delay_us"),
        ({"delay_us": float("nan")}, "delay_us"),
        ({"burst": 4}, "need a loss"),
        ({"loss": 0.1, "burst": 4, "fade_ms": 10}, "one of them"),
        ({"loss": 0.9, "burst": 2}, "cannot come in bursts"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(wrong: dict[str, float], why: str) -> None:
    with pytest.raises(LabError, match=why):
        Conditions(**wrong)


@pytest.fixture
def name(can_make: None) -> Iterator[str]:
    name = uuid.uuid4().hex
    yield name
    _command("down", "--name", name)


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.lab", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_named_one_outlives_its_command(name: str) -> None:
    assert "10.91.0.2" in _command("up", "--hosts", "3", "--delay", "1", "--name", name).stdout
    assert "already" in _command("up", "--name", name).stderr
    assert "10.91.0.3/24" in _command("run", "--name", name, "2", "ip", "addr").stdout
    assert "no host 3" in _command("run", "--name", name, "3", "ip", "addr").stderr
    assert _command("link", "--loss", "5", "--name", name).returncode == 0
    assert "loss=0.05" in _command("show", "--name", name).stdout
    assert _command("link", "--host", "2", "--loss", "100", "--name", name).returncode == 0
    assert "host 2 alone: Conditions(delay_us=0.0, loss=1.0" in (shown := _command("show", "--name", name).stdout)
    assert "loss=0.05" in shown and "host 1 alone" not in shown
    assert "hosts 1 to 2" in _command("link", "--host", "3", "--name", name).stderr
    assert _command("down", "--name", name).returncode == 0
    assert "There is no laboratory" in _command("show", "--name", name).stderr
