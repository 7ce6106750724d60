"""A system in a bad state: no room, no permission, no memory, few files, closed or full streams, an odd environment."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("halo._native")
pytest.importorskip("llama_cpp")

from halo.cli.plainly import plainly
from halo.errors import HaloError, OutputError, SidecarError
from halo.model import Model, demo_model, open_model
from halo.predictor import Text, calibrate, checkpoint
from halo.predictor.reorder import neuron_order, write_reordered
from tests.conftest import TinyModel
from tests.tiny_gguf import Shape, write_tiny

HALO = f"exec {sys.executable} -m halo.cli"
_HANG_S = 60


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of a shell, whose `halo` is the one under test."""
    return subprocess.run(
        ["sh", "-c", command.replace("halo ", f"{HALO} ", 1)],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_HANG_S,
    )


def one_paragraph(done: subprocess.CompletedProcess[str], *said: str, code: int = 1) -> None:
    """It ended with that code, and its last line is an error that says this."""
    *_, last = done.stderr.splitlines() or [""]
    assert done.returncode == code, done.stderr
    assert last.startswith("halo: error: ") and all(one in last for one in said), done.stderr
    assert "Traceback" not in done.stderr


# -- places that cannot be written to


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Returns a function: mounts a file system in memory of so many bytes, with further options."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mount{len(mounts)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs to mount a file system: {done.stderr.strip()}")
        mounts.append(place)
        return place

    yield mount
    for place in mounts:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("F32", Shape(n_layers=2, ff=64)), mlp_groups=4)


PIECES = [np.arange(3, 103, dtype=np.int32)]


def write_sidecar(model: Model, out: Path) -> None:
    calibrate(model, Text("made-up", "00" * 32, []), PIECES, out)


def write_model(model: Model, out: Path) -> None:
    write_reordered(model, neuron_order(model, PIECES), out)


def write_quantised(model: Model, out: Path) -> None:
    write_reordered(model, neuron_order(model, PIECES), out, kind="Q8_0")


def write_checkpoint(model: Model, out: Path) -> None:
    checkpoint.save(out, "key", checkpoint.Place(), [[np.ones(1 << 16)]])


WRITERS: list[Callable[[Model, Path], Any]] = [write_sidecar, write_model, write_quantised, write_checkpoint]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_leaves_nothing_half_written(
    write: Callable[[Model, Path], Any], model: Model, mounted: Callable[[str], Path]
) -> None:
    place = mounted("size=384k")  # more than a sidecar and a checkpoint need, and not twice the model
    (place / "old.gguf").write_bytes(b"old")
    for free in (0, 8 << 10, 96 << 10, 330 << 10):
        (place / "filling").write_bytes(bytes((384 << 10) - free - 8192))
        before = sorted(place.iterdir())
        try:
            write(model, place / "new.gguf")
        except OutputError as error:
            assert f"{place / 'new.gguf'} cannot be written: " in str(error) and "Make room there" in str(error)
            assert sorted(place.iterdir()) == before
        else:
            assert free
            assert sorted(place.iterdir()) == sorted([*before, place / "new.gguf"])
            (place / "new.gguf").unlink()


@pytest.mark.parametrize("write", WRITERS)
def test_what_nobody_can_write_to_is_named(write: Callable[[Model, Path], Any], model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, said in {
        tmp_path / "none" / "new.gguf": "No such file or directory. Make its folder first",
        tmp_path / "file" / "new.gguf": "Not a directory",
        tmp_path / ("x" * 250): "File name too long",
        Path("/proc/new.gguf"): "No such file or directory",
    }.items():
        with pytest.raises(OutputError, match=f"(?s){out.name} cannot be written: {said}"):
            write(model, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_system_that_is_read_only_says_so(
    write: Callable[[Model, Path], Any], model: Model, mounted: Callable[[str], Path]
) -> None:
    with pytest.raises(OutputError, match="Read-only file system"):
        write(model, mounted("ro") / "new.gguf")


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_of_somebody_else_says_so(write: Callable[[Model, Path], Any], model: Model, nobody: None) -> None:
    with pytest.raises(OutputError, match=r"Permission denied\. Choose a place that you may write to"):
        write(model, Path("/etc/new.gguf"))


def test_what_is_no_sidecar_is_neither_waited_for_nor_written_over(model: Model, tmp_path: Path) -> None:
    pipe, text = tmp_path / "pipe", tmp_path / "text"
    os.mkfifo(pipe)
    text.write_text("mine")
    for out in (pipe, text, tmp_path, Path("/dev/null")):
        with pytest.raises(SidecarError, match="is no sidecar: it is left alone"):
            write_sidecar(model, out)
    assert text.read_text() == "mine"


def test_a_calibration_that_could_not_be_written_does_not_begin(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", "F32", Shape(n_layers=2, ff=64))
    done = shell(f"halo calibrate -m {path} -o {tmp_path}/none/x.gguf")
    one_paragraph(done, "none/x.gguf cannot be written: No such file or directory. Make its folder first")
    assert "what groups give" not in done.stderr


@pytest.mark.parametrize("damage", range(60))
def test_a_damaged_checkpoint_is_begun_again(damage: int, tmp_path: Path) -> None:
    path, arrays = tmp_path / "x.part", [[np.ones(100), np.arange(7)]]
    checkpoint.save(path, "key", checkpoint.Place(0, 3, 5), arrays)
    data, drawn = bytearray(path.read_bytes()), np.random.default_rng(damage)
    for at in drawn.integers(0, len(data), 1 + damage % 3):
        data[at] = drawn.integers(256)
    path.write_bytes(data[: len(data) if damage % 4 else damage * len(data) // 60])
    found = checkpoint.restore(path, "key", [[np.zeros(100), np.zeros(7, np.int64)]])
    assert found is None or found == checkpoint.Place(0, 3, 5)


# -- streams


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Commands that print something, each in a moment."""
    folder = tmp_path_factory.mktemp("commands")
    tiny = write_tiny(folder / "tiny.gguf", "F32", Shape(n_layers=2, ff=64))
    text = folder / "text.txt"
    text.write_text("Once upon a time there was a model. " * 100)
    prompt = f"-m {demo_model()} -p Once -n 2"
    return [
        "halo doctor",
        "halo bench sync --workers 1 --tokens 1",
        f"halo generate {prompt}",
        f"halo generate --json {prompt}",
        f"halo perplexity -m {tiny} --text {text} --limit 100",
        f"halo calibrate -m {tiny} -o {folder}/x.gguf --tokens 600",
    ]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "output, said", [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")], ids=["full", "closed"]
)
def test_output_that_cannot_be_written_is_an_error(number: int, output: str, said: str, commands: list[str]) -> None:
    one_paragraph(shell(f"{commands[number]} {output}"), f"The output cannot be written: {said}.")


@pytest.mark.parametrize("number", range(6))
def test_without_standard_error_output_is_the_same(number: int, commands: list[str]) -> None:
    silent = shell(f"{commands[number]} 2>&-")
    assert silent.returncode in (0, 1)  # the doctor's findings
    assert silent.stdout and "halo: " not in silent.stdout


def test_help_of_a_closed_output_is_an_error_and_all_closed_is_silent() -> None:
    one_paragraph(shell("halo --help >&-"), "The output cannot be written")
    done = shell("halo devices <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_what_an_output_cannot_show_becomes_a_question_mark() -> None:
    done = shell("halo generate -p 'a\N{SNOWMAN}' -n 0", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a?\n"


# -- the environment


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "xx_XX.nonsense"},
        {"HOME": "/nonexistent"},
        {"TMPDIR": "/nonexistent"},
        {"TMPDIR": "/proc"},
    ],
    ids=str,
)
def test_an_odd_environment_changes_nothing(environment: dict[str, str]) -> None:
    done = shell("halo generate -p 'Es war einmal für' -n 2 --temp 0 --workers 1 --quiet", **environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_environment_at_all_and_nothing_to_write_to_change_nothing(tmp_path: Path) -> None:
    """No HOME, no PATH, no temporary folder, no /dev/shm."""
    folders = " ".join(f"mount --bind {at} {at} && mount -o remount,bind,ro {at} &&" for at in ("/tmp", "/var/tmp"))
    hide = f"{folders} umount /dev/shm;"
    command = f"{hide} exec env -i {sys.executable} -m halo.cli generate -p Once -n 2 --workers 1 --quiet"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root, to hide folders")
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=_HANG_S)
    assert (done.returncode, done.stderr) == (0, "")


# -- limits


@pytest.mark.parametrize(
    "options, said",
    [
        ("-c 1048576", "There is not enough memory: try a smaller context"),
        ("-c 1048576 --workers 1", "cannot serve 1048576 positions: there is not enough memory. Try a smaller context"),
        ("-t 256", "of 256 threads"),
    ],
)
def test_too_little_memory_is_a_sentence(options: str, said: str) -> None:
    one_paragraph(shell(f"ulimit -v 1000000; halo generate -p Once -n 2 {options}"), said)


@pytest.mark.parametrize("files", [6, 10, 12, 16])
def test_too_few_files_are_a_sentence(files: int) -> None:
    """With 8, Python adds noise of its own to it, from the event loop that it could not make."""
    one_paragraph(shell(f"ulimit -n {files}; halo generate -p Once -n 2 --workers 2"))


def test_a_model_that_shrinks_while_it_is_read_is_a_sentence(tmp_path: Path) -> None:
    path = Path(shutil.copy(demo_model(), tmp_path / "model.gguf"))
    command = [sys.executable, "-m", "halo.cli", "generate", "-m", str(path), "-p", "Once", "-n", "-1", "-c", "4096"]
    command.append("--quiet")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.read(20)
    os.truncate(path, 4096)
    _, errors = process.communicate(timeout=_HANG_S)
    assert process.returncode == 1
    assert errors.strip().startswith("halo: error: A file that is mapped into memory"), errors
    assert errors.count("\n") == 2


def test_the_systems_errors_are_sentences() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    broken = ImportError("a long text\nof many lines")
    broken.__cause__ = ImportError("x.so: failed to map segment\nmore")
    for error, said in (
        (OSError(24, "Too many open files"), f"HALO may have {limit}. Allow more"),
        (OSError(12, "Cannot allocate memory"), "not enough memory"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "no more processes"),
        (OSError(28, "No space left on device"), "The output cannot be written"),
        (OSError(13, "Permission denied", "/x"), "/x: Permission denied."),
        (RuntimeError("can't start new thread"), "no more threads"),
        (broken, "cannot be loaded: x.so: failed to map segment. Is there memory"),
    ):
        assert said in (plainly(error) or "")
    assert plainly(RuntimeError("a bug")) is None
    assert isinstance(OutputError("x"), HaloError) and isinstance(OutputError("x"), OSError)
