"""Links that share a slow medium, as Wi-Fi's is: what is sent again there is what was lost, not what still queues."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from halo import _native
from tests.wire.simulation import Medium, Network, Star

pytestmark = pytest.mark.skipif(_native.sealing_unavailable() is not None, reason=str(_native.sealing_unavailable()))
WORKERS = 4
SECOND = 1_000_000
ONE_ROW = (2240, 4160)  # bytes of a request and of its reply
MANY_ROWS = (70_000, 131_000)


def sync(star: Star, number: int, sizes: tuple[int, int]) -> bool:
    """Messages that differ from all others."""

    def message(which: int, worker: int) -> bytes:
        return random.Random((2 * number + which) * WORKERS + worker).randbytes(sizes[which])

    return star.sync(lambda worker: message(0, worker), lambda worker: message(1, worker), 10 * SECOND)


def run(loss: float, syncs: int, sizes: tuple[int, int], seed: int = 1) -> Counter[str]:
    """The counters of all ends, after every message has been delivered once and all have fallen silent."""
    star = Star(WORKERS, Network(loss=loss, medium=Medium()), seed)
    for number in range(syncs):
        assert sync(star, number, sizes), f"sync {number} is not complete"
    assert star.run_until_quiet(60 * SECOND)
    for link in star.links:
        assert all(len(delivered) == delivered.total() == syncs for delivered in link.delivered)
    return star.counted()


def test_without_loss_little_is_sent_beside_the_messages() -> None:
    counters = run(0.0, 200, ONE_ROW)
    assert counters["bytes_sent"] <= 1.2 * counters["message_bytes_sent"]
    assert counters["duplicates"] <= 0.05 * counters["packets_sent"]
    assert counters["dropped"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_with_loss_every_message_arrives_and_the_medium_is_not_flooded(seed: int) -> None:
    counters = run(0.05, 200, ONE_ROW, seed)
    assert counters["bytes_sent"] <= 2.5 * counters["message_bytes_sent"]
    assert counters["dropped"] == 0


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_long_messages_are_not_sent_again_because_they_take_long(loss: float) -> None:
    counters = run(loss, 10, MANY_ROWS)
    assert counters["bytes_sent"] <= (1.5 if loss == 0 else 2.5) * counters["message_bytes_sent"]
    assert counters["dropped"] == 0


def test_without_loss_nothing_is_repaired_once_the_link_is_known() -> None:
    star = Star(WORKERS, Network(medium=Medium()), seed=1)
    for number in range(200):
        assert sync(star, number, ONE_ROW)
        if number == 9:
            before = star.counted()
    after = star.counted()
    assert {name: after[name] - before[name] for name in ("repairs", "timeouts", "duplicates")} == {
        "repairs": 0,
        "timeouts": 0,
        "duplicates": 0,
    }
