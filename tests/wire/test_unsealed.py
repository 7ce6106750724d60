"""What comes over MQTT cannot answer for a worker that was asked over sealed datagrams."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.wire.datagram_cell import DatagramCell

pytestmark = pytest.mark.skipif(_native.sealing_unavailable() is not None, reason="nothing can be sealed here")
TOKENS = np.arange(10, 30, dtype=np.int32)


@pytest.fixture
def model(tiny_model: TinyModel) -> Model:
    return open_model(tiny_model("Q8_0"))


class Deaf(DatagramCell):
    """What goes over MQTT is seen by others, and does not arrive."""

    seen: list[bytes]

    def _post(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        self.seen.extend(message for _, _, message in messages)


def test_forged_messages_neither_answer_nor_expel(model: Model) -> None:
    """Although the worker still owes something that it was asked over MQTT, which was lost."""
    model.native.load()
    Deaf.seen = seen = []
    cell = Deaf(model, 1, stand_ins=True, addresses=lambda number, port: [("127.0.0.1", 9)])
    cell.workers[0].set_pace(3000)
    cell.engine.forward(0, TOKENS[:1])
    assert seen  # asked over MQTT, before the link stood
    cell.relay.update_candidates(0, [("127.0.0.1", cell.ends[0].port)])
    assert cell.links_stand()
    cell.engine.forward(0, TOKENS[1:2])
    last = max(int.from_bytes(m[16:24], "little") for m in seen)
    template = bytearray(seen[0][:64])
    template[5], template[7], template[56:60] = 2, 3, bytes(4)  # a refusal, of another shape
    template[32:34] = (999).to_bytes(2, "little")
    generating = threading.Thread(target=lambda: cell.engine.forward(0, TOKENS[2:10]))
    generating.start()
    while generating.is_alive():
        for number in range(last + 1, last + 300):
            template[16:24] = number.to_bytes(8, "little")
            cell.relay.deliver(0, bytes(template))
    generating.join()
    member = cell.relay.members()[0]
    assert member is not None
    assert member["state"] != "expelled"
