"""Damaged copies of model files and sidecars, the same ones each time, and a program that opens each and computes.

    python -m tests.model.damage FOLDER        prints how many were refused, and how many computed

The file that stops it stays in the folder, and `what` says what was done to it. `tests/native/test_damaged.py` runs it
with the module under sanitizers, and with little address space.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import random
import resource
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

from tests.tiny_gguf import Shape, write_tiny

SMALL = Shape(d=32, n_layers=2, n_heads=4, n_kv_heads=2, ff=64)
MODELS = {
    **dict.fromkeys(("F32", "F16", "Q8_0", "Q4_0"), SMALL),
    "Q45": replace(SMALL, biases=True, rope_freqs=True),
    **dict.fromkeys(
        ("Q2_K", "IQ4_XS", "Q3_K", "Q4_K", "Q5_K", "Q6_K"), Shape(d=256, n_layers=1, n_heads=4, n_kv_heads=2, ff=512)
    ),
}
"""What is damaged: small models of each kind of block."""
FLIPS, CUTS = 1000, 200

_ARCHITECTURE = "general.architecture"
_U32, _F32, _ARRAY, _STRING = 4, 6, 9, 8
_NUMBERS = (0, 1, 3, 5, 7, 33, 1000, 65537, 1 << 24, 1 << 31, (1 << 32) - 1)
_LENGTHS = (0, 1, 255, 1 << 20, 1 << 24, 1 << 31, 1 << 32, 1 << 40, 1 << 61, 1 << 63, (1 << 64) - 1)


def flipped(whole: bytes, header: int, n: int, seed: int = 8) -> Iterator[bytes]:
    """One bit to eight of them; every other time in the header, where one does the most."""
    drawn = random.Random(seed)
    for i in range(n):
        data = bytearray(whole)
        for _ in range(drawn.choice((1, 1, 1, 2, 8))):
            data[drawn.randrange(header if i % 2 else len(whole))] ^= 1 << drawn.randrange(8)
        yield bytes(data)


def cut(whole: bytes, header: int, n: int, seed: int = 5) -> Iterator[bytes]:
    """The beginnings of a file, every other one of them within the header."""
    drawn = random.Random(seed)
    for i in range(n):
        yield whole[: drawn.randrange(header if i % 2 else len(whole))]


def lying(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Counts, lengths, shapes, offsets and dimensions that are not those of the file; each by what was changed."""
    for at, n in itertools.product((8, 16), _LENGTHS):
        yield f"count at {at}: {n}", _replaced(whole, at, struct.pack("<Q", n))
    for key, n in itertools.product(_numbers(whole), _NUMBERS):
        at = _value_of(whole, key)
        kept = struct.unpack_from("<I", whole, at - 4)[0]
        yield f"{key}: {n}", _replaced(whole, at, struct.pack("<I", n))
        if kept == _F32:
            continue
        yield f"{key}: a float", _replaced(whole, at - 4, struct.pack("<If", _F32, float(n)))
    for key, value in itertools.product(_floats(whole), (0.0, -1.0, 1e-45, 3e38, float("inf"), float("nan"))):
        yield f"{key}: {value}", _replaced(whole, _value_of(whole, key), struct.pack("<f", value))
    for name in (b"token_embd.weight", b"blk.0.attn_k.weight", b"blk.0.ffn_down.weight", b"output_norm.weight"):
        at = whole.index(_string(name))
        end = at + 8 + len(name)
        (dims,) = struct.unpack_from("<I", whole, end)
        for n in _LENGTHS:
            yield f"{name.decode()}: a name of {n} bytes", _replaced(whole, at, struct.pack("<Q", n))
            yield f"{name.decode()}: shape {n}", _replaced(whole, end + 4, struct.pack("<Q", n))
            yield f"{name.decode()}: offset {n}", _replaced(whole, end + 4 + 8 * dims + 4, struct.pack("<Q", n))
        for n in (0, 3, 5, 1 << 31):
            yield f"{name.decode()}: {n} dimensions", _replaced(whole, end, struct.pack("<I", n))
        for n in (*range(40), 1 << 31):
            yield f"{name.decode()}: type {n}", _replaced(whole, end + 4 + 8 * dims, struct.pack("<I", n))
        yield f"{name.decode()}: no UTF-8", _replaced(whole, at + 8, b"\xff\xfe")
    key = whole.index(b"tokenizer.ggml.tokens") + 21
    for n in _LENGTHS:
        yield f"an array of {n}", _replaced(whole, key + 8, struct.pack("<Q", n))
    for kind in range(16):
        yield f"an array of type {kind}", _replaced(whole, key + 4, struct.pack("<I", kind))


def keyed(path: Path) -> Iterator[tuple[str, bytes]]:
    """Files with a metadata key more: one that is there already, arrays of arrays, and what is no alignment."""
    from halo.model.gguf import read_gguf

    file, whole = read_gguf(path), path.read_bytes()
    n, end = file.keys

    def added(key: str, kind: int, value: bytes) -> bytes:
        more = _string(key.encode()) + struct.pack("<I", kind) + value
        head = _replaced(whole[:end], 16, struct.pack("<Q", n + 1)) + more + whole[end : file.header_end]
        return head + bytes(-len(head) % 32) + whole[file.start :]

    def renamed(key: str, data: bytes) -> bytes:
        """With the key that was added as `key`, in the place of the one that was there."""
        first = _string(key.encode())
        data = data.replace(first, _string(b"y" * len(key)))
        return data.replace(_string(b"x" * len(key)), first, 1)

    yield "a key twice", added("llama.block_count", _U32, struct.pack("<I", 1))
    for depth in (1, 5, 100_000):
        yield f"arrays in arrays: {depth}", added("x", _ARRAY, struct.pack("<IQ", _ARRAY, 1) * depth + bytes(12))
    for alignment in (0, 1, 7, 12, 24, 1 << 16, (1 << 16) + 8, 1 << 31):
        yield f"alignment {alignment}", added("general.alignment", _U32, struct.pack("<I", alignment))
    for long in (_string(b"x" * 100_000), _string(b"\x1b]0;\x07\n" * 1000)):
        for key in ("general.architecture", "llama.rope.scaling.type", "general.alignment"):
            yield f"a long {key}", renamed(key, added("x" * len(key), _STRING, long))
    texts = struct.pack("<IQ", _STRING, 1000) + _string(b"x" * 100) * 1000
    yield "a list of architectures", renamed(_ARCHITECTURE, added("x" * len(_ARCHITECTURE), _ARRAY, texts))
    yield "an alignment in words", added("general.alignment", _STRING, _string(b"32"))
    yield "a text that is no UTF-8", added("x", _STRING, _string(b"\xff"))


def _replaced(whole: bytes, at: int, value: bytes) -> bytes:
    return whole[:at] + value + whole[at + len(value) :]


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _value_of(whole: bytes, key: str) -> int:
    return whole.index(_string(key.encode())) + 8 + len(key) + 4


def _numbers(whole: bytes) -> list[str]:
    names = ("attention.head_count", "attention.head_count_kv", "block_count", "context_length", "embedding_length")
    names += ("feed_forward_length", "rope.dimension_count", "vocab_size")
    return [f"llama.{name}" for name in names]


def _floats(whole: bytes) -> list[str]:
    return ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"]


def damaged(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All of it: what was done to which model, and the file."""
    from halo.model.gguf import read_gguf

    for i, (kind, shape) in enumerate(MODELS.items()):
        path = write_tiny(folder / f"{kind}.gguf", kind, shape)
        whole, header = path.read_bytes(), read_gguf(path).header_end
        for n, data in enumerate(flipped(whole, header, FLIPS // len(MODELS) + 1, i)):
            yield f"{kind}: flips {n}", data
        for n, data in enumerate(cut(whole, header, CUTS // len(MODELS) + 1, i)):
            yield f"{kind}: cut {n}", data
        if kind in ("F32", "Q4_K"):
            for what, data in itertools.chain(lying(whole), keyed(path)):
                yield f"{kind}: {what}", data


def damaged_parts(folder: Path) -> Iterator[tuple[str, Path, bytes]]:
    """The same of the parts of a split model: what was done, to which part, and what it is to hold."""
    from halo.model.gguf import read_gguf

    first = write_tiny(folder / "split.gguf", "Q8_0", replace(SMALL, split=8))
    for i, part in enumerate(sorted(folder.glob(first.name.replace("-00001-", "-*-")))):
        whole, header = part.read_bytes(), read_gguf(part).header_end
        for n, data in enumerate(itertools.chain(flipped(whole, header, 60, i), cut(whole, header, 20, i))):
            yield f"part {i}: {n}", part, data
        part.write_bytes(whole)


def damaged_sidecars(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The same of a sidecar, for the model `folder`/model.gguf, which is made as well."""
    import numpy as np

    from halo.model import open_model
    from halo.model.gguf import read_gguf
    from halo.predictor import LayerTable, Sidecar, write_sidecar

    model = open_model(write_tiny(folder / "model.gguf", "F32", replace(SMALL, n_layers=3)))
    draw = np.random.default_rng(0)

    def table(bounds: list[int]) -> LayerTable:
        mean, predictor = draw.standard_normal((2, len(bounds) - 1, model.spec.d)).astype(np.float32)
        bias, significance = draw.random((2, len(bounds) - 1)).astype(np.float32)
        return LayerTable(bounds, mean, predictor, bias, significance)

    path, tables = folder / "whole.halo.gguf", [table(bounds) for bounds in model.grid.mlp]
    write_sidecar(path, Sidecar(model.identity, model.content, model.name, "pages.txt", "ab" * 32, 12345, tables))
    whole, file = path.read_bytes(), read_gguf(path)
    for n, data in enumerate(flipped(whole, file.header_end, 300)):
        yield f"sidecar: flips {n}", data
    for n, data in enumerate(cut(whole, file.header_end, 60)):
        yield f"sidecar: cut {n}", data
    for tensor, value in itertools.product(file.tensors.values(), (1e9, -1e9, 1.1e9, 3e38, -3e38, float("nan"))):
        filled = struct.pack("<f", value) * prod(tensor.shape)
        yield f"sidecar: {tensor.name} all {value}", _replaced(whole, tensor.offset, filled)


def outcome(path: Path) -> str:
    """What becomes of a model file: refused, computed or not finite."""
    from halo import ModelError, _native
    from halo.model import open_model

    try:
        model = open_model(path)
    except ModelError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error), error
        return "refused"
    engine = _native.Engine(model.native, 64, 1, 1)
    try:
        engine.forward(0, [1, 2])
        engine.forward(0, [3])
    except _native.NativeError as error:
        if "finite" not in str(error):
            raise
        return "not finite"
    return "computed"


def outcome_of_sidecar(path: Path, model: Path) -> str:
    """What becomes of a sidecar: refused, or computed with, where everything that may be late is."""
    from halo import _native
    from halo.errors import SidecarError
    from halo.model import open_model
    from halo.quality import QualityControl

    opened, said = open_model(model), list[str]()
    engine = _native.Engine(opened.native, 64, 1, 1)
    try:
        quality = QualityControl(opened, path, engine, said.append).set("late:0.5")
    except SidecarError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error), error
        return "refused"
    for token in (1, 2, 3):
        engine.forward(0, [token])
    assert quality.share and not said
    return "computed"


class InMemory(bytes):
    """A file's bytes as if they were mapped."""

    def madvise(self, *advice: int) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--native", help="this file in the place of the native module")
    parser.add_argument("--in-memory", action="store_true", help="read files, and map none: buffers of their very size")
    parser.add_argument("--spare", type=int, metavar="MIB", help="so much address space beside what is taken by then")
    args = parser.parse_args()
    if args.native:
        spec = importlib.util.spec_from_file_location("halo._native", args.native)
        assert spec and spec.loader
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
    import halo.model.gguf
    import halo.predictor
    import halo.quality

    if args.in_memory:
        halo.model.gguf._map = lambda path: InMemory(path.read_bytes())  # type: ignore[assignment,return-value]
    if args.spare:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (args.spare << 20),) * 2)
    counts: Counter[str] = Counter()
    path, sidecar = args.folder / "damaged.gguf", args.folder / "damaged.halo.gguf"
    for what, data in damaged(args.folder):
        (args.folder / "what").write_text(what)
        path.write_bytes(data)
        counts[outcome(path)] += 1
    for what, part, data in damaged_parts(args.folder):
        (args.folder / "what").write_text(what)
        part.write_bytes(data)
        counts[outcome(part)] += 1
    for what, data in damaged_sidecars(args.folder):
        (args.folder / "what").write_text(what)
        sidecar.write_bytes(data)
        counts["sidecars " + outcome_of_sidecar(sidecar, args.folder / "model.gguf")] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
