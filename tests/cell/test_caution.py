"""Who joins a broker in the open is told so, once."""

from __future__ import annotations

import asyncio

import pytest
from cell_helpers import eventually

from halo.cell import caution as module
from halo.cell.address import Address

OPEN = "mqtt://192.0.2.1"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(module, "_said", False)


def said(*urls):
    lines = []
    for url in urls:
        asyncio.run(module.caution(Address.parse(url), lines.append))
    return lines


def test_whoever_controls_an_open_broker_controls_the_cell_and_that_is_said_once():
    (line,) = said("mqtt://me:secret@192.0.2.1", OPEN, "mqtt://192.0.2.2")
    assert "whoever controls it" in line and "mqtts://" in line and "halo doctor" in line
    assert "\n" not in line and "secret" not in line


@pytest.mark.parametrize("url", ["mqtts://192.0.2.1", "mqtt://127.0.0.1", "mqtt://127.0.1.1:99", "mqtt://[::1]"])
def test_tls_and_this_machines_own_brokers_are_no_concern(url):
    assert said(url) == []


def test_a_hub_says_it_when_it_joins_and_not_again(broker, open_cell, start_worker, lines, monkeypatch):
    async def elsewhere(address):
        return False

    monkeypatch.setattr(module, "is_loopback", elsewhere)
    start_worker("a")
    for _ in range(2):
        open_cell(broker=str(broker.address), workers=1).close()
    assert sum("whoever controls it" in line for line in lines) == 1


def test_nothing_is_said_of_a_broker_on_loopback(broker, open_cell, start_worker, lines):
    worker = start_worker("a")
    open_cell(broker=str(broker.address), workers=1)
    open_cell(workers=1)
    eventually(lambda: "serving session" in worker.log.read_text())
    assert "whoever controls it" not in "".join(lines) + worker.log.read_text()
