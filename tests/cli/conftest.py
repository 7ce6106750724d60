"""A broker for the commands that need one."""

from __future__ import annotations

import pytest

from halo.cell.broker import Mosquitto, find_mosquitto
from halo.cell.loop import LoopThread


@pytest.fixture
def mosquitto():
    """A running broker; `.loop` is the thread that started it."""
    if (program := find_mosquitto()) is None:
        pytest.skip("mosquitto is not installed")
    loop = LoopThread("test")
    started = loop.run(Mosquitto.start(program))
    started.loop = loop
    yield started
    loop.run(started.stop())
    loop.close()
