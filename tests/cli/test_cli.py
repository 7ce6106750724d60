"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("halo._native")

from halo.cell.broker import Mosquitto, find_mosquitto
from halo.cell.loop import LoopThread
from halo.errors import ModelError
from halo.model import demo_model

HALO = [sys.executable, "-m", "halo.cli"]
PROMPT = ["-p", "Once upon a time", "--temp", "0"]


def halo(*arguments, text="", **environment):
    """Run a command to its end."""
    env = {key: value for key, value in os.environ.items() if key != "HALO_BROKER"} | environment
    return subprocess.run([*HALO, *arguments], capture_output=True, text=True, input=text, env=env, timeout=60)


@pytest.fixture(scope="module")
def model():
    """A model file for these tests: HALO_TEST_MODEL, or the demo model."""
    try:
        return os.environ.get("HALO_TEST_MODEL") or str(demo_model())
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def hub_extra():
    pytest.importorskip("llama_cpp")


@pytest.fixture
def broker():
    """The URL of a broker."""
    if (program := find_mosquitto()) is None:
        pytest.skip("mosquitto is not installed")
    loop = LoopThread("test")
    started = loop.run(Mosquitto.start(program))
    yield str(started.address)
    loop.run(started.stop())
    loop.close()


@pytest.fixture
def worker(broker, model):
    process = subprocess.Popen(
        [*HALO, "worker", "--broker", broker, "-m", model, "--name", "pi2"], stderr=subprocess.PIPE, text=True
    )
    assert "started: model" in process.stderr.readline()
    assert "pi2 is in the cell 'halo'" in process.stderr.readline()
    yield process
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize("command", [[], ["generate"], ["worker"], ["devices"], ["bench", "sync"]])
def test_every_help_teaches_with_examples(command):
    shown = halo(*command, "--help")
    assert shown.returncode == 0
    assert shown.stdout.count("  halo ") >= 2


def test_the_version_is_the_packages():
    import halo as package

    assert halo("--version").stdout == f"halo {package.__version__}\n"


@pytest.mark.parametrize(
    "wrong", [[], ["sing"], ["generate", "--workers", "-1", "-p", "x"], ["generate", "--top-k", "x"]]
)
def test_wrong_usage_is_exit_code_2(wrong):
    assert halo(*wrong).returncode == 2


def test_devices_without_a_broker_says_what_to_try():
    shown = halo("devices")
    assert shown.returncode == 1
    assert shown.stderr.startswith("halo: error: No broker was named")
    assert "HALO_BROKER" in shown.stderr


def test_passwords_are_never_printed(model):
    for url in ("mqtt://me:secret@127.0.0.1:9", "http://me:secret@x"):
        shown = halo("worker", "-m", model, "--broker", url)
        assert shown.returncode == 1
        assert "secret" not in shown.stdout + shown.stderr


def test_a_model_that_is_not_there_is_an_error_not_a_traceback(hub_extra):
    shown = halo("generate", "-m", "/no/such.gguf", "-p", "x")
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)
    assert shown.stderr.startswith("halo: error: ")


def test_text_goes_to_stdout_and_everything_else_to_stderr(hub_extra, model):
    plain = halo("generate", "-m", model, *PROMPT, "-n", "12")
    quiet = halo("generate", "-m", model, *PROMPT, "-n", "12", "--quiet")
    assert plain.returncode == 0
    assert plain.stdout == quiet.stdout
    assert "12 tokens" in plain.stderr
    assert quiet.stderr == ""


def test_the_prompt_can_be_piped_or_read_from_a_file(hub_extra, model, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Once upon a time\n")
    options = ["generate", "-m", model, "--temp", "0", "-n", "8", "--quiet"]
    wanted = halo(*options, "-p", "Once upon a time").stdout
    assert halo(*options, text="Once upon a time\n").stdout == wanted
    assert halo(*options, "-f", str(file)).stdout == wanted
    assert halo(*options).returncode == 2
    assert "cannot be read from" in halo(*options, "-f", str(tmp_path / "other")).stderr


def test_workers_change_the_figures_and_not_the_text(hub_extra, model):
    alone = json.loads(halo("generate", "-m", model, *PROMPT, "-n", "12", "--json").stdout)
    shared = json.loads(halo("generate", "-m", model, *PROMPT, "-n", "12", "--json", "--workers", "2").stdout)
    assert alone["text"] == shared["text"]
    assert (alone["workers"], shared["workers"]) == (0, 2)
    assert [d["name"] for d in shared["devices"]] == ["hub", "worker-1", "worker-2"]
    assert all(0.2 < d["share"] < 0.5 for d in shared["devices"])
    assert shared["totals"]["bytes_received"] > 0
    for key in ("tokens", "prompt_tokens", "tokens_per_s", "time_to_first_token_s", "model", "partials"):
        assert key in shared


def test_a_cell_at_a_broker(hub_extra, model, broker, worker):
    listed = halo("devices", "--broker", broker)
    assert "cell halo: no hub" in listed.stdout
    assert "pi2" in listed.stdout
    shown = halo("generate", "-m", model, *PROMPT, "-n", "4", "--json", HALO_BROKER=broker)
    assert json.loads(shown.stdout)["workers"] == 1
    (device,) = json.loads(halo("devices", "--broker", broker, "--json").stdout)["devices"]
    assert device["name"] == "pi2"
    worker.send_signal(signal.SIGINT)
    assert worker.wait(5) == 0
    assert "no workers" in halo("devices", "--broker", broker).stdout


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_text_stays_and_nothing_is_left_behind(hub_extra, model, number, code):
    command = [*HALO, "generate", "-m", model, *PROMPT, "-n", "-1", "-c", "4096", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = process.stdout.read(10)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 3
    start = time.monotonic()
    process.send_signal(number)
    rest, errors = process.communicate(timeout=10)
    assert process.returncode == code, errors
    assert time.monotonic() - start < 4
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in errors
    assert subprocess.run(["ps", "-p", ",".join(children)], capture_output=True).returncode == 1


def test_a_worker_killed_in_the_middle_is_an_error_with_its_name(hub_extra, model, broker, worker):
    command = [
        *HALO,
        "generate",
        "-m",
        model,
        *PROMPT,
        "-n",
        "-1",
        "-c",
        "4096",
        "--workers",
        "1",
        "--broker",
        broker,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    start = time.monotonic()
    worker.kill()
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - start < 5
    assert process.returncode == 1
    assert b"halo: error: The worker 'pi2' was lost in the middle of a token" in errors


def test_a_frozen_worker_is_an_error_within_five_seconds(hub_extra, model, broker, worker):
    command = [
        *HALO,
        "generate",
        "-m",
        model,
        *PROMPT,
        "-n",
        "-1",
        "-c",
        "4096",
        "--workers",
        "1",
        "--broker",
        broker,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    start = time.monotonic()
    worker.send_signal(signal.SIGSTOP)
    while b"halo: error:" not in (line := process.stderr.readline()):
        assert line
    assert time.monotonic() - start < 5
    assert b"'pi2' was lost" in line
    process.communicate(timeout=10)


def test_bench_sync_prints_the_median(model):
    figures = json.loads(halo("bench", "sync", "-m", model, "--workers", "2", "--tokens", "5", "--json").stdout)
    assert figures["syncs"] == 5 * 44
    assert 0 < figures["median_ms"] <= figures["p95_ms"] <= figures["max_ms"]


def test_a_closed_pipe_ends_quietly(hub_extra, model):
    command = [*HALO, "generate", "-m", model, *PROMPT, "-n", "-1", "-c", "4096", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
