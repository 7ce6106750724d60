"""Every command, with every kind of model and broker that cannot be used: one paragraph, within seconds."""

from __future__ import annotations

import argparse
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("halo._native")
pytest.importorskip("llama_cpp")

from halo.cli import main, parser
from halo.model import demo_model

pytestmark = pytest.mark.timeout(60)

NOBODY = "mqtt://127.0.0.1:9"
NEEDED = {
    "generate": ["-p", "Once"],
    "worker": ["--broker", NOBODY],
    "perplexity": ["--text", "text.txt", "--limit", "100"],
    "bench sync": ["--workers", "1"],
    "bench generate": ["--workers", "1"],
}
"""What a command cannot do without."""

MODELS = {
    "none.gguf": "The model file none.gguf does not exist.",
    "folder": "The model file folder is a directory",
    "empty.gguf": "The model file empty.gguf is empty",
    "pipe": "The model file pipe is a named pipe",
    "model.safetensors": "model.safetensors is not a GGUF file: it is a safetensors file.",
    "cut.gguf": "cut.gguf is truncated or damaged",
    "header.gguf": "header.gguf is not a usable GGUF file: it ends inside its header.",
}
BROKERS = {
    "http://me:secret@pi1": "'pi1' is not the address of an MQTT broker: the scheme 'http' is not mqtt or mqtts.",
    "mqtt://pi1:port": "is not the address of an MQTT broker: its port is no number.",
    "mqtt://pi1..local": "is not the address of an MQTT broker: between the dots of its host are 1 to 63 letters",
    "some broker": "is not the address of an MQTT broker: it names no host.",
}


def parsers(of: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """All commands, by their names."""
    yield " ".join(path), of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from parsers(each, (*path, name))


def commands(option: str) -> list[list[str]]:
    """Command lines of all commands that have this option: as they are, and with --json where there is one."""
    found = []
    for name, of in parsers(parser()):
        if option in of._option_string_actions:
            line = [*name.split(), *NEEDED.get(name, [])]
            found += [line, [*line, "--json"]] if "--json" in of._option_string_actions else [line]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the MODELS."""
    folder = tmp_path_factory.mktemp("unusable")
    whole = demo_model().read_bytes()
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "text.txt").write_text("Once upon a time there was a model. " * 100)
    (folder / "folder").mkdir()
    (folder / "empty.gguf").touch()
    os.mkfifo(folder / "pipe")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    (folder / "cut.gguf").write_bytes(whole[:-4000])
    (folder / "header.gguf").write_bytes(whole[:5000])
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In that folder; a command's own handlers of signals are gone afterwards."""
    monkeypatch.chdir(folder)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_no_command_is_left_out() -> None:
    both = {"generate", "worker", "doctor", "perplexity", "bench sync", "bench generate"}
    for option, more in (("--model", {"calibrate", "bench model"}), ("--broker", {"devices"})):
        for name in both | more:
            assert [*name.split(), *NEEDED.get(name, [])] in commands(option)


@pytest.mark.parametrize("command", commands("--model"), ids=" ".join)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_cannot_be_used_is_a_paragraph(
    model: str,
    command: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = sorted(folder.iterdir())
    assert main([*command, "-m", model]) == 1
    shown = capsys.readouterr()
    assert not caplog.records and sorted(folder.iterdir()) == before
    if command[0] == "doctor":  # for it that is a finding
        assert MODELS[model] in " ".join(shown.out.split()) and "halo: error" not in shown.err
        return
    assert shown.err.startswith(f"halo: error: {MODELS[model]}") and shown.err.count("\n") == 1, shown.err
    assert not shown.out


@pytest.mark.parametrize("command", commands("--broker"), ids=" ".join)
@pytest.mark.parametrize("broker", BROKERS)
def test_what_is_no_broker_is_a_paragraph(
    broker: str, command: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*command, "--broker", broker]) == (2 if command[0] == "doctor" else 1)
    shown = capsys.readouterr()
    assert shown.err.startswith("halo: error: ") and BROKERS[broker] in shown.err and shown.err.count("\n") == 1
    assert not shown.out and not caplog.records and "secret" not in shown.err


def test_a_broker_that_does_not_listen_is_a_paragraph() -> None:
    """All at once, since each tries for some seconds."""
    lines = [[*line, "--broker", NOBODY] for line in commands("--broker")]
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "halo.cli", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for line in lines
    ]
    ended = [(*process.communicate(), process.returncode) for process in begun]
    for line, (out, err, code) in zip(lines, ended, strict=True):
        assert code == 1, (line, out, err)
        if line[0] == "doctor":
            assert "Cannot reach the MQTT broker" in " ".join(out.split()) and not err
            continue
        assert not out and "Traceback" not in err, line
        *_, last = err.splitlines()
        assert err.count("error: ") == 1 and last.startswith(f"halo: error: Cannot reach the MQTT broker at {NOBODY}: ")
