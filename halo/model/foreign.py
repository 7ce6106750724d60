"""Names what somebody gives for a model and is none, by how it begins: each with what to do about it."""

from __future__ import annotations

import re
import stat
from pathlib import Path

HEAD = 512
"""Bytes of a file's beginning that are looked at."""

_CONVERT = "HALO reads models in GGUF: convert it with llama.cpp's convert_hf_to_gguf.py, or get it as a .gguf file."
_UNPACK = "Unpack it, and give the .gguf file that is in it with -m."
_AGAIN = "Download it again, and compare its size with that of the source."

_BEGINNINGS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), what, advice)
    for pattern, what, advice in (
        (rb".{6}\x00\x00\{\s*\"", "a safetensors file", _CONVERT),
        (rb"PK\x03\x04.{26}[^/]*/(data\.pkl|\.format_version|byteorder)", "a PyTorch checkpoint (.bin, .pt)", _CONVERT),
        (rb"\x80[\x02-\x05]", "a Python pickle, as old PyTorch checkpoints (.bin, .pt) are", _CONVERT),
        (
            rb"(lmgg|fmgg|tjgg|algg)",
            "a GGML file of the time before GGUF (2023)",
            "Get the model as a .gguf file, or convert the original one with llama.cpp's convert_hf_to_gguf.py.",
        ),
        (
            rb"version https://git-lfs",
            "a git-lfs pointer, which stands for the file and is not it",
            "Run `git lfs pull` in its folder, or download the file itself.",
        ),
        (
            rb"\s*<(!doctype|html|head|\?xml)",
            "a web page, most likely saved in place of the download",
            "Download the file itself (on Hugging Face: the link 'download', or the address with /resolve/ in it).",
        ),
        (rb"\s*[{\[]", "a JSON text, perhaps a server's error or a model's config.json", _AGAIN),
        (rb"PK\x03\x04", "a zip archive", _UNPACK),
        (rb"\x1f\x8b", "packed with gzip", _UNPACK),
        (rb"(\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|BZh\d|.{257}ustar)", "an archive (xz, 7z, zstd, tar)", _UNPACK),
        (rb"\x00{32}", "zero bytes at its beginning, as a download that is not finished has", _AGAIN),
    )
)


def what_it_is(head: bytes) -> str:
    """Sentences about a file that begins so and is no GGUF file: what it is instead, and what to do."""
    for pattern, what, advice in _BEGINNINGS:
        if pattern.match(head):
            return f"it is {what}. {advice}"
    return f"it begins with {head[:4]!r}. {_CONVERT}"


def why_no_file(path: Path) -> str:
    """Sentences about a path that is no regular file. Raises OSError where it cannot be looked at."""
    if re.match(r"(https?|ftp|hf):/", str(path)):
        return "is an address, and not a file: download it first, and give the file's path with -m."
    if not path.exists():
        return "does not exist. Give the path of a GGUF file with -m."
    if path.is_dir():
        return f"is a directory, and not a file. {_look_inside(path)}"
    mode = path.stat().st_mode
    kinds = {stat.S_ISFIFO: "named pipe", stat.S_ISSOCK: "socket", stat.S_ISCHR: "device", stat.S_ISBLK: "device"}
    what = next((what for test, what in kinds.items() if test(mode)), "special file")
    return f"is a {what}, and not a regular file. A model is mapped into memory: copy it into a file first."


def _look_inside(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    if found := next((name for name in names if name.endswith(".gguf")), None):
        return f"Give a file in it, as in -m {folder / found}."
    return _CONVERT if any(name.endswith(".safetensors") for name in names) else "Give the path of a GGUF file with -m."
