"""A model that is only partly in memory: the same bits, its share of the memory, whoever loads what and when."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone, arrives
from tests.tiny_gguf import K_SHAPE, Shape, write_tiny

KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_0+F16", "Q4_0-F16", "Q4_K", "Q5_K", "Q4_K_M"]
TOKENS = np.random.default_rng(1).integers(3, 320, 40).astype(np.int32)
LARGER = Shape(d=1024, n_layers=3, n_heads=16, n_kv_heads=4, ff=5632)
Masks = list[tuple[int, int]]


def path_of(tiny_model: TinyModel, kind: str) -> Path:
    return tiny_model(kind, K_SHAPE if "_K" in kind else None)


def whole(model: Model) -> Masks:
    return _native.shard_masks(model.native, 0, 1)


def counts(masks: Masks) -> list[tuple[int, int]]:
    return [(attention.bit_count(), mlp.bit_count()) for attention, mlp in masks]


EVERY_WAY = """
import sys
import numpy as np
from halo import _native
from halo.model import open_model
tokens = np.arange(3, 43, dtype=np.int32)
def logits(path, load):
    model = open_model(path).native
    load(model)
    return _native.Engine(model, 64, threads=2).forward(0, tokens, True)
def in_turn(model):
    for i in (2, 0, 4, 1, 3):
        model.load(_native.shard_masks(model, i, 5), output=False)
ways = [
    lambda m: None,
    lambda m: m.load(output=False),
    lambda m: m.load(_native.shard_masks(m, 1, 3)),
    lambda m: m.load(_native.share_masks(m, 0.4)),
    in_turn,
    lambda m: (m.load(), m.forget(), m.load(_native.shard_masks(m, 0, 2))),
]
for path in sys.argv[1:]:
    full = logits(path, lambda m: m.load())
    for way in ways:
        assert np.array_equal(logits(path, way), full), (path, ways.index(way))
"""


@pytest.mark.parametrize("isa", _native.variants())
def test_logits_are_the_same_bits_whatever_was_loaded_before_they_were_asked_for(
    isa: str, tiny_model: TinyModel
) -> None:
    paths = [path_of(tiny_model, kind) for kind in KINDS]
    environment = {**os.environ, "HALO_ISA": isa}
    subprocess.run([sys.executable, "-c", EVERY_WAY, *paths], env=environment, check=True, timeout=120)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_0-F16", "Q4_K_M"])
def test_a_cell_whose_devices_hold_a_shard_each_and_are_asked_for_anything_gives_the_same_bits(
    kind: str, tiny_model: TinyModel
) -> None:
    path = path_of(tiny_model, kind)
    models = [open_model(path) for _ in range(4)]
    for i, model in enumerate(models):
        model.native.load(_native.shard_masks(model.native, i, 4), output=i == 0)
    cell = LocalCell(models[0], 3, load=False)
    cell.workers = [_native.Worker(model.native) for model in models[1:]]
    for worker in cell.workers:
        worker.open(cell.session, 256, 1)
    cell.engine.set_plan("random", seed=5)
    assert np.array_equal(cell.engine.forward(0, TOKENS, True), alone(open_model(path), TOKENS))


def test_what_the_hub_read_to_stand_in_stays_with_those_who_hold_it(tiny_model: TinyModel) -> None:
    """Once they are back it computes what it did before."""
    path = tiny_model("Q4_0")
    models = [open_model(path) for _ in range(3)]
    for i, model in enumerate(models):
        model.native.load(_native.shard_masks(model.native, i, 3), output=i == 0)
    cell = LocalCell(models[0], 2, load=False)
    cell.workers = [_native.Worker(model.native) for model in models[1:]]
    for i, worker in enumerate(cell.workers):
        worker.open(cell.session, 256, 1)
        cell.relay.set_resident(i, _native.shard_masks(models[0].native, i + 1, 3))

    def results(token: int) -> list[int]:
        if cell.engine.n_past(0) > 200:
            cell.engine.truncate(0, 1)
        cell.engine.reset_stats()
        cell.engine.forward(0, [token])
        return [device["group_results"] for device in cell.engine.stats()["devices"]]

    before = results(5)
    cell.fate = lambda message: []
    results(6)
    assert models[0].native.resident() == whole(models[0])
    cell.fate = arrives
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and results(7) != before:
        time.sleep(0.01)
    assert results(8) == before


def test_a_device_packs_what_it_is_asked_for_and_no_more(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0"))
    assert model.native.resident() == [(0, 0)] * model.spec.n_layers
    shard = _native.shard_masks(model.native, 1, 3)
    model.native.load(shard, output=False)
    assert model.native.resident() == shard
    _native.Engine(model.native, 64).forward(0, TOKENS[:1])
    assert model.native.resident() == whole(model)


def test_threads_that_load_and_compute_at_once_do_not_disturb_each_other(tiny_model: TinyModel) -> None:
    path = tiny_model("Q4_0-F16", Shape(d=256, n_layers=4, n_heads=8, n_kv_heads=8, ff=1024))
    expected = alone(open_model(path), TOKENS)
    for seed in range(6):
        model = open_model(path)
        random = np.random.default_rng(seed)
        everything = whole(model)
        errors: list[BaseException] = []

        def load(masks: Masks, model: Model = model, errors: list[BaseException] = errors) -> None:
            try:
                model.native.load(masks)
            except BaseException as error:
                errors.append(error)

        wanted = [
            [(int(random.integers(1 << 8)) & a, int(random.integers(1 << 32)) & m) for a, m in everything]
            for _ in range(4)
        ]
        loading = [threading.Thread(target=load, args=(masks,)) for masks in wanted]
        for thread in loading:
            thread.start()
        assert np.array_equal(_native.Engine(model.native, 64, threads=2).forward(0, TOKENS, True), expected)
        for thread in loading:
            thread.join()
        assert not errors and model.native.resident() == everything


def test_loading_tells_its_progress_in_bytes_and_stops_where_that_raises(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0"))
    told: list[tuple[int, int]] = []
    model.native.load(None, lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1][0] == told[-1][1] > 0

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    model.native.forget()
    with pytest.raises(Enough):
        model.native.load(None, stop)
    part = model.native.resident()
    assert part != whole(model)
    assert np.array_equal(
        _native.Engine(model.native, 64).forward(0, TOKENS, True), alone(open_model(model.path), TOKENS)
    )


def test_masks_that_do_not_fit_the_model_are_refused(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0"))
    everything = whole(model)
    for wrong in ([], everything[1:], [*everything[1:], (1 << 63, 0)], [*everything[1:], (0, 1 << 63)]):
        with pytest.raises(ValueError):
            model.native.load(wrong)
    for index, of in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError):
            _native.shard_masks(model.native, index, of)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError):
            _native.share_masks(model.native, share)
    assert model.native.resident() == [(0, 0)] * model.spec.n_layers


@pytest.mark.parametrize("shape", [Shape(n_layers=7), Shape(n_layers=22, n_kv_heads=1, ff=1024), Shape(ff=64)])
@pytest.mark.parametrize("of", [1, 2, 3, 5, 8, 13, 40])
def test_each_group_is_in_one_shard_and_shards_are_even(shape: Shape, of: int, tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0", shape))
    shards = [_native.shard_masks(model.native, i, of) for i in range(of)]
    assert shards[-1] == _native.shard_masks(open_model(model.path).native, of - 1, of)
    for layer, everything in enumerate(whole(model)):
        for part in (0, 1):
            masks = [shard[layer][part] for shard in shards]
            assert sum(masks) == everything[part] and max(masks) <= everything[part]
            sizes = [mask.bit_count() for mask in masks]
            assert max(sizes) - min(sizes) <= 1
    for part in (0, 1):
        totals = [sum(count[part] for count in counts(shard)) for shard in shards]
        assert max(totals) - min(totals) <= 1


def test_a_share_of_each_layer_evens_out_over_the_layers(tiny_model: TinyModel) -> None:
    model = open_model(tiny_model("Q4_0", Shape(n_layers=10, ff=1024)))
    groups = counts(whole(model))
    for share in (0.0, 0.1, 1 / 3, 0.5, 1.0):
        found = counts(_native.share_masks(model.native, share))
        for part in (0, 1):
            wanted = share * sum(count[part] for count in groups)
            assert abs(sum(count[part] for count in found) - wanted) < 1


MEASURED = """
import re, sys
from pathlib import Path
from halo import _native
from halo.model import open_model
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = resident()
model = open_model(sys.argv[1]).native
def load():
    model.load(_native.shard_masks(model, 1, 3), output=False)
load()
shard = resident() - before
model.load()
full = resident() - before
model.forget()
load()
print(shard, full, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M"])
def test_a_device_with_a_shard_has_no_more_than_that_in_memory(kind: str, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "larger.gguf", kind, LARGER)
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    shard, full, again = map(int, done.stdout.split())
    size = path.stat().st_size
    assert full <= 1.05 * size + (2 << 20)
    assert shard <= 1.1 * size / 3 + (2 << 20)
    assert again <= 1.1 * size / 3 + (2 << 20)
