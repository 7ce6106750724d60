"""Which of the addresses that a device announces another one sends anything to."""

from __future__ import annotations

import pytest

from halo.exchange.addresses import reachable

NOTHING = "1.2.3 1.2.3.4.5 ... : 999.1.1.1 01.2.3.4 224.0.0.1 255.255.255.255 0.0.0.0"
NOTHING_EITHER = ":: ff02::1 fe80::1 ::ffff:224.0.0.1 ::ffff:0.0.0.0"


@pytest.mark.parametrize("address", [*NOTHING.split(), *NOTHING_EITHER.split()])
def test_what_names_no_machine_is_left_out(address):
    assert reachable([address, "192.0.2.1"], loopback=True) == ["192.0.2.1"]


def test_this_machine_is_an_address_only_where_the_broker_is_on_it():
    announced = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.1"]
    assert reachable(announced, loopback=False) == ["192.0.2.1"]
    assert reachable(announced, loopback=True) == ["127.0.0.1", "::1", "192.0.2.1"]


def test_no_more_than_eight_are_tried():
    assert len(reachable([f"192.0.2.{i}" for i in range(1, 100)], loopback=False)) == 8
