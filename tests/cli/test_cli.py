"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from unittest import mock

import pytest

pytest.importorskip("halo._native")

from halo.cell import Cell
from halo.cli import execute, generate, options, parser
from halo.cli.console import table
from halo.errors import BrokerError, HaloError, ModelError
from halo.model import demo_model, open_model

HALO = [sys.executable, "-m", "halo.cli"]
PROMPT = ["-p", "Once upon a time", "--temp", "0"]
_HANG_S = 60


def halo(*arguments, text="", **environment):
    """Run a command to its end."""
    env = os.environ | environment
    return subprocess.run([*HALO, *arguments], capture_output=True, text=True, input=text, env=env, timeout=_HANG_S)


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
def broker(mosquitto):
    """The URL of a broker."""
    return str(mosquitto.address)


@contextlib.contextmanager
def slow_worker(broker, model, name):
    """Slow enough for a text to last until somebody has looked at it."""
    command = [*HALO, "worker", "--broker", broker, "-m", model, "--name", name, "--pace", "3000", "--pace-group", "50"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "started: model" in process.stderr.readline()
    assert f"{name} is in the cell 'halo'" in process.stderr.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def worker(broker, model):
    with slow_worker(broker, model, "pi2") as process:
        yield process


@pytest.mark.parametrize("command", [[], ["generate"], ["worker"], ["devices"], ["doctor"], ["bench", "sync"]])
def test_every_help_teaches_with_examples(command):
    shown = halo(*command, "--help")
    assert shown.returncode == 0
    assert shown.stdout.count("  halo ") >= 2


def test_the_version_is_the_packages():
    import halo as package

    assert halo("--version").stdout == f"halo {package.__version__}\n"


@pytest.mark.parametrize("wrong", [[], ["sing"], ["generate", "-p", "a", "-m", ""]])
def test_wrong_usage_is_exit_code_2(wrong):
    assert halo(*wrong).returncode == 2


@pytest.mark.parametrize(
    "wrong",
    [
        *(["--workers", number] for number in ("-1", "65", "256")),
        *(["-t", number] for number in ("0", "300")),
        *(["-c", "2000000"], ["-n", "-2"]),
        *(["--temp", number] for number in ("nan", "inf", "-1", "x")),
        *(["--top-k", number] for number in ("-1", "x", "9" * 400)),
        *(["--top-p", "7"], ["--min-p", "2"], ["--seed", "99999999999"]),
        *(["--hub-share", number] for number in ("-0.1", "1.1", "nan", "x")),
        *(["--pace", number] for number in ("-1", "1.5", "1000000")),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_the_range(wrong):
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()) as shown:
        parser().parse_args(["generate", "-p", "x", *wrong])
    assert ended.value.code == 2
    assert re.search(r"argument .*: must be a (whole )?number from -?\d+ to \d+", shown.getvalue())


@pytest.mark.parametrize(
    "command, long",
    [
        (["generate", "-p", "-abc"], "--prompt"),
        (["generate", "-n", "5", "--prompt", "--abc"], "--prompt"),
        (["generate", "-m", "-x.gguf", "-p", "a"], "--model"),
        (["generate", "-n", "5", "-p"], None),
        (["generate", "-p", "-n", "5"], None),
        (["generate", "-p", "--predict=5"], None),
    ],
)
def test_a_value_that_begins_with_a_dash_is_refused_with_how_to_give_it(command, long, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(command)
    said = capsys.readouterr().err.splitlines()[-1]
    assert ": expected one argument" in said
    assert said.endswith(f"(one that begins with '-' is given with '=', as in {long}='-...')") == bool(long)
    assert parser().parse_args(["generate", "--prompt=-abc"]).prompt == "-abc"


def test_what_goes_wrong_outside_of_halo_is_one_line_and_exit_code_1(capsys):
    for error in (ValueError("odd"), MemoryError(), OSError(28, "No space left on device")):

        def fail(error=error):
            raise error

        with mock.patch("halo.cli._drop_output"):
            assert execute(fail) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("halo: error: ") and shown.count("\n") == 1


@pytest.mark.parametrize(
    "data, said",
    [
        ("für".encode("latin-1"), "The prompt is not UTF-8 text: byte 1 is 0xfc."),
        ("für".encode("utf-16"), "The prompt is no text: byte 3 is zero."),
        (b"x" * (32 << 20) + b"y", "The prompt is longer than 32 MiB"),
    ],
)
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_a_prompt_that_is_no_text_is_named(data, said, way, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_bytes(data)
    options = parser().parse_args(["generate", *(["-f", str(file)] if way == "file" else [])])
    with file.open() as piped, mock.patch("sys.stdin", piped), pytest.raises(HaloError, match=said):
        generate.read_prompt(options)


@pytest.mark.parametrize("sign", ["\x1b[31m", "\x9b31m", "\n", "\u202e", "\u2028"])
def test_names_cannot_write_to_the_terminal(sign, capsys, tmp_path):
    assert execute(lambda: open_model(tmp_path / f"a{sign}halo: b")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" -m.") and f"a?{sign[1:]}halo: b does not exist" in line
    assert table([["a", f"x{sign}"], ["b", "y" * 1000]]) == [f"a  x?{sign[1:]}", f"b  {'y' * 61}..."]
    with pytest.raises(SystemExit):
        parser().parse_args(["worker", "-m", "m.gguf", f"a{sign}halo: b"])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"unrecognized arguments: a?{sign[1:]}halo: b")


def test_a_prompt_that_is_typed_is_read_as_utf8():
    shown = subprocess.run([*HALO, "generate", "-p", b"a\xff"], capture_output=True, text=True)
    assert shown.returncode == 1
    assert shown.stderr.startswith("halo: error: The prompt is not UTF-8 text: byte 1 is 0xff")


def test_a_file_without_end_is_no_prompt():
    with pytest.raises(HaloError, match="longer than 32 MiB"):
        generate.read_prompt(parser().parse_args(["generate", "-f", "/dev/zero"]))


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_is_one_line(hub_extra, model, form):
    arguments = ["generate", "-m", model, *PROMPT, "-n", "2", *form]
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        shown = subprocess.run([*HALO, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert shown.returncode == 1
    assert shown.stderr == "halo: error: The output cannot be written: No space left on device.\n"


def test_ctrl_c_while_the_commands_are_imported_is_quiet():
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'halo.cli.worker': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from halo.cli import main\n"
        "sys.exit(main(['--help']))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (130, "")


def test_the_variable_is_named_where_it_has_chosen_the_broker():
    nowhere = "mqtt://127.0.0.1:9"
    args = parser().parse_args(["devices"])
    with mock.patch.dict(os.environ, HALO_BROKER=nowhere):
        assert options.broker_of(args) == nowhere
        assert "HALO_BROKER" in str(options.named_variable(args, BrokerError("Away.")))
        local = parser().parse_args(["generate", "--broker", "local"])
        assert options.broker_of(local) is None
        assert str(options.named_variable(local, BrokerError("Away."))) == "Away."
        other = parser().parse_args(["generate", "--broker", "mqtt://x"])
        assert options.broker_of(other) == "mqtt://x"


def test_devices_without_a_broker_says_what_to_try():
    shown = halo("devices")
    assert shown.returncode == 1
    assert shown.stderr.startswith("halo: error: No broker was named")
    assert "HALO_BROKER" in shown.stderr


def test_the_doctor_finds_what_the_broker_holds_back(model, broker, worker):
    shown = halo("doctor", "-m", model, "--json", "--broker", broker)
    report = json.loads(shown.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert shown.returncode == (1 if report["bad"] + report["warn"] else 0)
    assert found["broker-nagle"]["status"] == "ok"
    assert "pi2" in found["cell-members"]["measured"]
    assert found["cell-models"]["status"] == "ok"
    assert "needs" in found["memory"]["measured"]


def test_the_doctor_examines_this_device_without_a_broker():
    shown = halo("doctor")
    assert shown.returncode in (0, 1)
    assert "tcp-rto-min" in shown.stdout and "broker-nagle" not in shown.stdout
    assert shown.stderr.startswith("halo: no broker was named")


def test_what_the_doctor_cannot_begin_is_exit_code_2_and_what_it_finds_is_1():
    assert halo("doctor", "--broker", "http://me:secret@x").returncode == 2
    assert halo("doctor", "--cell", "a/b").returncode == 2
    lost = halo("doctor", "-m", "/no/such.gguf", "--broker", "mqtt://me:secret@127.0.0.1:9")
    assert lost.returncode == 1
    assert lost.stdout.startswith("bad      model: ") and "bad      broker: Cannot reach" in lost.stdout
    assert "secret" not in lost.stdout + lost.stderr


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
    new = halo("generate", "-m", model, *PROMPT, "-n", "12", "--no-display-prompt")
    assert plain.returncode == 0
    assert plain.stdout == "Once upon a time" + new.stdout
    assert new.stdout == quiet.stdout
    assert "12 tokens" in plain.stderr
    assert quiet.stderr == ""


def test_a_text_that_fills_the_context_says_so(hub_extra, model):
    shown = halo("generate", "-m", model, *PROMPT, "-n", "-1", "-c", "256", "--json", "--seed", "1")
    report = json.loads(shown.stdout)
    assert report["finish"] in ("context", "stop")
    assert ("the context window is full" in shown.stderr) == (report["finish"] == "context")
    nothing = json.loads(halo("generate", "-m", model, *PROMPT, "-n", "0", "--json").stdout)
    assert (nothing["text"], nothing["tokens"], nothing["finish"]) == ("", 0, "length")


def test_a_prompt_that_is_too_long_is_not_shown_and_a_window_beyond_the_training_is_told(hub_extra, model):
    trained = open_model(model).n_ctx_train
    long = halo("generate", "-m", model, "-p", "Once upon a time " * 90, "-c", "256")
    assert (long.returncode, long.stdout) == (1, "")
    assert f"larger window (-c N, n_ctx), up to {trained} with this model" in long.stderr
    wide = halo("generate", "-m", model, *PROMPT, "-n", "1", "-c", str(trained + 1))
    assert f"the model was trained for {trained} positions" in wide.stderr


def test_a_window_is_rounded_up_as_the_help_says(hub_extra, model):
    assert "rounded up to a multiple of 256" in " ".join(halo("generate", "--help").stdout.split())
    for asked, holds in (("2", 256), ("257", 512)):
        long = halo("generate", "-m", model, "-p", "Once upon a time " * 200, "-c", asked)
        assert long.returncode == 1 and f"the context window holds {holds}," in long.stderr


@pytest.mark.parametrize("terminal, shown", [(True, "a?[31m?\n\t?b?"), (False, "a\x1b[31m\r\n\t\x9bb\x7f")])
def test_what_a_model_says_is_no_command_to_the_terminal(terminal, shown):
    with mock.patch("sys.stdout", io.StringIO()) as out:
        out.isatty = lambda: terminal
        generate._show("a\x1b[31m\r\n\t\x9bb\x7f")
    assert out.getvalue() == shown


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
    what = ["generate", "-m", model, *PROMPT, "-n", "12", "--json", "--workers", "2", "--plan", "even"]
    shared = json.loads(halo(*what).stdout)
    assert alone["text"] == shared["text"]
    assert (alone["workers"], shared["workers"]) == (0, 2)
    assert [d["name"] for d in shared["devices"]] == ["hub", "worker-1", "worker-2"]
    assert all(0.1 < d["share"] < 0.8 for d in shared["devices"])
    assert shared["totals"]["bytes_received"] > 0
    for key in ("tokens", "prompt_tokens", "tokens_per_s", "time_to_first_token_s", "model", "partials", "transport"):
        assert key in shared
    assert [d.get("link", {}).get("transport") for d in shared["devices"]] == [None, "udp", "udp"]
    for device in shared["devices"]:
        assert {"late_requests", "late", "never", "stand_ins", "filled", "probations"} <= device.keys()
    assert all(d["state"] in ("stable", "probation") and 0 <= d["cache"] <= 1 for d in shared["devices"][1:])


def test_partials_plan_share_and_pace_are_options(hub_extra, model):
    what = ["generate", "-m", model, *PROMPT, "-n", "6", "--json", "--workers", "2"]
    how = ["--partials", "f16", "--plan", "even", "--hub-share", "0", "--pace", "500"]
    report = json.loads(halo(*what, *how).stdout)
    assert report["partials"] == "f16"
    hub, *workers = (d["share"] for d in report["devices"])
    assert hub < min(workers)
    for wrong in (["--partials", "f8"], ["--plan", "odd"], ["--residency", "half"]):
        assert halo(*what, *wrong).returncode == 2


def test_a_pace_for_workers_that_are_not_started_here_is_wrong_usage(model):
    shown = halo("generate", "-m", model, *PROMPT, "--broker", "mqtt://127.0.0.1:9", "--pace", "500")
    assert shown.returncode == 2
    assert "give it to their halo worker" in shown.stderr


def test_a_cell_at_a_broker(hub_extra, model, broker, worker):
    listed = halo("devices", "--broker", broker)
    assert "cell halo: no hub" in listed.stdout
    assert "pi2" in listed.stdout
    shown = halo("generate", "-m", model, *PROMPT, "-n", "4", "--json", HALO_BROKER=broker)
    assert json.loads(shown.stdout)["workers"] == 1
    (device,) = json.loads(halo("devices", "--broker", broker, "--json").stdout)["devices"]
    assert device["name"] == "pi2"
    assert device["threads"] == len(os.sched_getaffinity(0))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(_HANG_S) == 0
    assert "no workers" in halo("devices", "--broker", broker).stdout


def watching(broker, *options, **streams):
    return subprocess.Popen([*HALO, "devices", "--broker", broker, "--watch", *options], **streams)


def test_devices_follows_the_cell_until_ctrl_c(model, broker, worker):
    process = watching(broker, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["devices"][0]["link"] is None
    with Cell.open(open_model(model), broker=broker, workers=1, n_ctx=64):
        seen = (json.loads(line)["devices"][0]["link"] for line in process.stdout)
        link = next(link for link in itertools.islice(seen, 20) if link is not None and link["rtt_ms"] is not None)
    assert (link["transport"], link["reason"]) == ("udp", "")
    assert link["address"].startswith("127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=_HANG_S)
    assert (process.returncode, errors) == (0, "")


def test_a_terminal_that_followed_the_cell_is_left_clean(broker):
    ours, terminal = os.openpty()
    process = watching(broker, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    shown = b""
    while shown.count(b"no hub") < 2:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(_HANG_S) == 0
    with contextlib.suppress(OSError):  # the terminal is gone
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    assert b"\x1b[2A" in shown  # the second picture replaced the first
    assert shown.rfind(b"\x1b[?7h") > shown.rfind(b"\x1b[?7l")
    assert b"Traceback" not in shown


def test_what_followed_the_cell_ends_with_its_reader(broker):
    process = watching(broker, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(_HANG_S) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_the_last_line_tells_of_links_only_where_they_are_not_as_they_should_be():
    def told(*links, states=("stable", "stable")):
        devices = [
            {"name": f"pi{i}", "share": 0.5, "link": link, "state": state}
            for i, (link, state) in enumerate(zip(links, states, strict=True))
        ]
        report = {"tokens": 5, "tokens_per_s": 1.0, "time_to_first_token_s": None, "devices": devices}
        return generate._summary(report).partition("50%, pi1 50%")[2]

    good = {"transport": "udp", "loss_to": 0.002, "loss_from": None, "reason": ""}
    lossy = good | {"loss_from": 0.053}
    asked = {"transport": "mqtt", "loss_to": None, "loss_from": None, "reason": ""}
    assert told(good, good) == told(asked, asked) == ""
    assert told(good, lossy) == "; 2 workers over udp, loss up to 5.3%"
    silent = asked | {"reason": "not answered"}
    assert told(good, silent) == "; 1 worker over udp, 1 over mqtt (pi1)"
    assert told(good, silent, states=["stable", "gone"]) == ""


def test_the_plan_that_leaves_the_workers_idle_is_told_but_not_workers_in_trouble():
    def idle(share, **worker):
        return generate.does_not_pay({"devices": [{"share": share}, {"requests": 40, "stand_ins": 0} | worker]})

    assert idle(1.0, state="stable")
    assert not idle(0.8, state="stable")
    assert not idle(1.0, state="gone")
    assert not idle(1.0, state="stable", requests=0)
    assert idle(1.0, state="stable", stand_ins=1)
    assert not idle(1.0, state="stable", stand_ins=20)
    assert not generate.does_not_pay({"devices": [{"share": 1.0}]})


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_text_stays_and_nothing_is_left_behind(hub_extra, model, number, code):
    what = ["generate", "-m", model, *PROMPT, "--no-display-prompt", "-n", "-1", "-c", "4096"]
    command = [*HALO, *what, "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = process.stdout.read(10)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 3
    process.send_signal(number)
    rest, errors = process.communicate(timeout=_HANG_S)
    assert process.returncode == code, errors
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in errors
    assert subprocess.run(["ps", "-p", ",".join(children)], capture_output=True).returncode == 1


@pytest.mark.parametrize(
    "number, said",
    [(signal.SIGKILL, "worker pi2 has left"), (signal.SIGSTOP, "worker pi2 does not answer")],
)
def test_a_worker_that_dies_in_the_middle_costs_a_line_and_no_text(hub_extra, model, broker, worker, number, said):
    command = [*HALO, "generate", "-m", model, *PROMPT, "--no-display-prompt", "-n", "-1", "-c", "4096"]
    command += ["--workers", "2", "--broker", broker, "--plan", "even"]
    with slow_worker(broker, model, "pi3"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        text = process.stdout.read(10)
        worker.send_signal(number)
        while said not in (line := process.stderr.readline()):
            assert line, "it ended"
        assert "the hub compute its groups" in line
        text += process.stdout.read(20)  # it goes on
        worker.send_signal(signal.SIGCONT)
        while number == signal.SIGSTOP and "worker pi2 is back after" not in (line := process.stderr.readline()):
            assert line, "it ended"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_HANG_S)
    assert process.returncode == 130
    alone = json.loads(halo("generate", "-m", model, *PROMPT, "-n", "40", "--json").stdout)
    assert alone["text"].startswith(text[: len(alone["text"])])


def test_bench_sync_prints_times_of_tokens_and_of_syncs(model):
    figures = json.loads(halo("bench", "sync", "-m", model, "--workers", "2", "--tokens", "5", "--json").stdout)
    assert figures["syncs"] == 5 * 44
    assert 0 < figures["sync_p50_ms"] <= figures["sync_p99_ms"] <= figures["max_ms"]
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["max_ms"]
    assert figures["bytes_per_token"] >= 44 * 2 * (2176 + 4096)


def test_bench_generate_gives_the_same_bits_each_time(model):
    figures = json.loads(halo("bench", "generate", "-m", model, "--workers", "2", "--tokens", "25", "--json").stdout)
    assert figures["tokens"] == 25
    assert figures["same_bits"] is True
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["max_ms"]
    assert figures["prompt_p50_ms"] > 0


def test_bench_syncs_replies_are_as_large_as_the_partials(model):
    command = ["bench", "sync", "-m", model, "--workers", "1", "--tokens", "1", "--json"]
    sizes = [json.loads(halo(*command, "--partials", p).stdout)["reply_bytes"] for p in ("fixed", "f32", "f16")]
    assert sizes == [8192, 8192, 4096]


def test_a_closed_pipe_ends_quietly(hub_extra, model):
    command = [*HALO, "generate", "-m", model, *PROMPT, "-n", "-1", "-c", "4096", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(_HANG_S) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_workers_udp_port_is_a_port():
    assert parser().parse_args(["worker"]).udp_port == 0
    assert parser().parse_args(["worker", "--udp-port", "52000"]).udp_port == 52000
    with pytest.raises(SystemExit):
        parser().parse_args(["worker", "--udp-port", "65536"])
