"""What users give for a model and is none: each is named, with what to do about it."""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from halo import ModelError
from halo.model import open_model


def zipped(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, b"x" * 100)
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.gguf"))
    return data.getvalue()


FOREIGN = {
    "empty": (b"", "is empty"),
    "short": (b"GGUF\x03", "has only 5 bytes"),
    "safetensors": (struct.pack("<Q", 90) + b'{"model.embed_tokens.weight":' + bytes(200), "safetensors.*convert_hf"),
    "torch": (zipped("archive/data.pkl"), r"PyTorch checkpoint \(\.bin, \.pt\).*convert_hf"),
    "pickle": (pickle.dumps({"weight": list(range(100))}, 2), "Python pickle.*convert_hf"),
    "ggml": (struct.pack("<I", 0x67676D6C) + bytes(60), "GGML file of the time before GGUF"),
    "ggjt": (struct.pack("<II", 0x67676A74, 3) + bytes(60), "GGML file of the time before GGUF"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git-lfs pointer.*git lfs pull"),
    "html": (b"\n<!DOCTYPE html>\n<html><head>" + bytes(60), "web page.*Download the file itself"),
    "json": (b'{"error": "Repository not found"}     ', "JSON text"),
    "zip": (zipped("model.gguf"), "zip archive. Unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "gzip"),
    "tar": (tarred(), "an archive"),
    "zeros": (bytes(4096), "zero bytes at its beginning.*Download it again"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(60), "big-endian.*gguf_convert_endian"),
    "version 1": (b"GGUF" + struct.pack("<III", 1, 1, 1) + bytes(60), "version 1, of 2023"),
    "later version": (b"GGUF" + struct.pack("<IQQ", 9, 1, 1) + bytes(60), "its GGUF version is 9"),
    "text": (b"Once upon a time, there was a model.", "it begins with b'Once'"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_gguf_file_is_named(what: str, tmp_path: Path) -> None:
    data, said = FOREIGN[what]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=f"(?s)model.gguf.*{said}") as raised:
        open_model(path)
    assert "\n" not in str(raised.value)


def test_what_is_no_file_is_named_and_nothing_is_waited_for(tmp_path: Path) -> None:
    full, empty, pipe, at = tmp_path / "full", tmp_path / "empty", tmp_path / "pipe", tmp_path / "socket"
    full.mkdir()
    (full / "tiny.gguf").touch()
    empty.mkdir()
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(at))
        for path, said in {
            tmp_path / "none.gguf": "does not exist",
            tmp_path / "none" / "none.gguf": "does not exist",
            empty: "is a directory.*Give the path of a GGUF file",
            full: "is a directory.*-m .*tiny.gguf",
            pipe: "is a named pipe",
            at: "is a socket",
            Path("/dev/zero"): "is a device",
            Path("a\0b"): "does not exist",
            Path("https://host/model.gguf"): "is an address, and not a file: download it first",
        }.items():
            with pytest.raises(ModelError, match=said):
                open_model(path)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(100))
    path.chmod(0)
    request.getfixturevalue("nobody")
    with pytest.raises(
        ModelError, match=r"cannot be read: Permission denied. HALO runs as the user .*chmod a.r .*model.gguf"
    ):
        open_model(path)
