"""Who computes what with the even plan."""

from __future__ import annotations

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import LocalCell, alone, arrives
from tests.tiny_gguf import Shape

TOKENS = np.arange(10, 30, dtype=np.int32)
DEEP = Shape(n_layers=30, ff=1024)


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q4_0", DEEP))


def shares(cell: LocalCell) -> list[float]:
    results = [device["group_results"] for device in cell.engine.stats()["devices"]]
    return [count / sum(results) for count in results]


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("hub_share", [None, 0.0, 0.1, 1 / 3, 0.5, 0.93, 1.0])
def test_the_hub_has_its_share_and_the_workers_equal_parts_of_the_rest(
    model: Model, workers: int, hub_share: float | None
) -> None:
    cell = LocalCell(model, workers, stand_ins=False)
    cell.engine.set_plan("even", hub_share)
    assert np.array_equal(cell.engine.forward(0, TOKENS, True), alone(model, TOKENS))
    wanted = 1 / (workers + 1) if hub_share is None else hub_share
    hub, *others = shares(cell)
    assert hub == pytest.approx(wanted, abs=0.002)
    assert others == pytest.approx([(1 - wanted) / workers] * workers, abs=0.01)


def test_every_layer_and_part_is_shared_alike(model: Model) -> None:
    """The MLP's groups, not only the attention's; the hub's part of a layer is within one group of its share."""
    cell = LocalCell(model, 2, stand_ins=False)
    asked: dict[tuple[int, int], int] = {}

    def fate(message: bytes) -> list[bytes]:
        if message[5] == 1:  # a request
            key = (int.from_bytes(message[34:36], "little"), message[36])
            asked[key] = asked.get(key, 0) + int.from_bytes(message[40:48], "little").bit_count()
        return arrives(message)

    cell.fate = fate
    cell.engine.set_plan("even", 0.3)
    cell.engine.forward(0, TOKENS[:1])
    assert len(asked) == 2 * DEEP.n_layers
    for (layer, part), count in asked.items():
        groups = len((model.grid.mlp if part else model.grid.attention)[layer]) - 1
        assert abs((groups - count) - 0.3 * groups) < 1


def test_a_hub_with_no_share_still_fills_its_cache(model: Model) -> None:
    """So that it can go on alone, or take any group, at the next sync."""
    cell = LocalCell(model, 2, stand_ins=False)
    cell.engine.set_plan("even", 0.0)
    cell.engine.forward(0, TOKENS[:10])
    assert shares(cell)[0] == 0
    cell.engine.set_plan("even", 1.0)
    assert np.array_equal(cell.engine.forward(0, TOKENS[10:], True), alone(model, TOKENS)[10:])


def test_a_hub_alone_computes_everything_whatever_its_share(model: Model) -> None:
    cell = LocalCell(model, 0)
    cell.engine.set_plan("even", 0.0)
    assert np.array_equal(cell.engine.forward(0, TOKENS, True), alone(model, TOKENS))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(model: Model, share: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        _native.Engine(model.native, 8).set_plan("even", share)
