"""`halo generate` ends in order at every stage: with the code of what ended it, and with nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("halo._native")
pytest.importorskip("llama_cpp")

from halo.cell.topics import Topics
from halo.cell.view import look
from halo.errors import ModelError
from halo.model import demo_model
from tests.cell.cell_helpers import alive, children

HALO = [sys.executable, "-m", "halo.cli"]
LOCAL = ["--workers", "2", "--plan", "even", "--pace", "3000"]
_HANG_S = 60


@pytest.fixture(scope="module")
def generate():
    """The command, for ever."""
    try:
        return [*HALO, "generate", "-m", str(demo_model()), "-p", "Once", "-n", "-1"]
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture
def broker(mosquitto):
    """A broker; `.view()` looks at the cell there."""
    mosquitto.view = lambda: mosquitto.loop.run(look(mosquitto.address, Topics("halo"), 0.1))
    return mosquitto


def begin(*command, **streams):
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams)


def ended(process, code):
    """See that it ends, with this code and without a traceback."""
    _, errors = process.communicate(timeout=_HANG_S)
    assert process.returncode == code
    assert b"Traceback" not in (errors or b"") and b"Exception" not in (errors or b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_while_it_looks_for_the_broker(generate, number):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = begin(*generate, "--broker", f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(_HANG_S)
        silent.accept()[0].close()
        process.send_signal(number)
        ended(process, 128 + number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_it_waits_for_workers(generate, broker, number):
    process = begin(*generate, "--broker", str(broker.address), "--workers", "1")
    while b"waiting for workers" not in process.stderr.readline():
        pass
    process.send_signal(number)
    ended(process, 128 + number)
    assert broker.view().lease is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_while_it_generates(generate, number):
    process = begin(*generate, *LOCAL)
    assert process.stdout.read(8).startswith(b"Once")
    started = children(process.pid)
    assert len(started) == 3
    process.send_signal(number)
    if number != signal.SIGINT:  # what is told twice ends once, in order
        process.send_signal(number)
    ended(process, 128 + number)
    assert not any(map(alive, started))


@pytest.mark.parametrize(
    "command, words, code",
    [(None, "Once upon", 129), (["worker", "-m"], "is in the cell", 0), (["devices", "--watch"], "no workers", 129)],
)
def test_when_its_terminal_is_closed(generate, broker, command, words, code):
    model = generate[generate.index("-m", 3) + 1]
    if command is None:
        whole = [*generate, *LOCAL]
    else:
        whole = [*HALO, *command, *([model] if command[-1] == "-m" else []), "--broker", str(broker.address)]
    ours, terminal = os.openpty()
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    # The terminal's own process group, which is sent SIGHUP when it goes.
    lead = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = begin(sys.executable, "-c", lead, *whole, **streams, start_new_session=True)
    os.close(terminal)
    shown = b""
    while words.encode() not in shown:
        shown += os.read(ours, 4096)
    started = children(process.pid)
    os.close(ours)
    assert process.wait(_HANG_S) == code
    assert len(started) == (3 if command is None else 0) and not any(map(alive, started))
    assert not broker.view().roster.profiles


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_when_nobody_reads_it(generate, form):
    process = begin(*generate, *form, "-c", "64", *LOCAL)
    process.stdout.close()
    process.stdout = None
    ended(process, 141)


def test_without_streams_it_is_silent_and_not_in_trouble(generate):
    closed = {"preexec_fn": lambda: [os.close(stream) for stream in (0, 1, 2)], "stdout": None, "stderr": None}
    process = begin(*generate, "-c", "64", "--workers", "1", **closed)
    assert process.wait(_HANG_S) == 0


def test_from_python(generate, broker):
    """Ctrl-C is the caller's exception, and nothing is left behind after it."""
    code = "import sys, halo; halo.generate('Once', model=sys.argv[1], broker=sys.argv[2], workers=1)"
    process = begin(sys.executable, "-c", code, generate[generate.index("-m", 3) + 1], str(broker.address))
    while b"waiting for workers" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=_HANG_S)
    assert process.returncode == -signal.SIGINT and re.search(rb"\nKeyboardInterrupt\s*$", errors)
    assert broker.view().lease is None
