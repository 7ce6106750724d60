"""The checks of a cell, on documents as its devices would leave them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from halo.cell.messages import DatagramPlace, Lease, Link, Links, ModelId, Profile, encode
from halo.cell.view import View
from halo.doctor.cell import examine_cell
from halo.doctor.models import ModelFile

ONE = ModelId("a" * 64, "Tiny", "tiny.gguf")
OTHER = ModelId("b" * 64, "Tiny", "$(reboot).gguf")
LEASE = Lease(session="0" * 16, hub="pi1", model=ONE, n_ctx=2048, slots=1, partials="fixed", since=1.0)
WORKER = Profile(
    name="pi2", incarnation="1" * 16, isa="neon", threads=4, cores=4, memory_bytes=4 << 30, exchanges=["mqtt"],
    model=ONE, session="", state="idle", reason="",
    datagrams=DatagramPlace(key="c" * 64, ciphers=["chacha20-poly1305"], port=40000, addresses=["192.0.2.2"]),
)  # fmt: skip


def worker(name, **changes):
    return msgspec.structs.replace(WORKER, name=name, **changes)


def examined(*workers, lease=LEASE, model=None, foreign=None, links=None):
    view = View(lease=lease, beating=True, foreign_hub=foreign)
    view.links = None if links is None else Links(session="0" * 16, links=links)
    for profile in workers:
        assert view.roster.hear(profile.name, encode(profile))
    return {finding.name: finding for finding in examine_cell(view, model)}


def file(identity, size=10**9, content=""):
    return ModelFile(Path("my model.gguf"), "Tiny", identity, size, 2048, 0, content)


@pytest.mark.parametrize("lease", [LEASE, None])
def test_a_sound_cell_and_an_empty_one_are_fine(lease):
    for workers in ([], [worker("pi2"), worker("pi3")]):
        assert {f.status for f in examined(*workers, lease=lease).values()} == {"ok"}


def test_a_worker_with_another_file_than_the_hubs_is_bad():
    found = examined(worker("pi2"), worker("pi3", model=OTHER, state="refused", reason="another model"))
    assert found["cell-models"].status == "bad"
    assert "pi1's" not in found["cell-models"].measured and "pi3" in found["cell-models"].measured
    assert found["cell-members"].status == "ok"  # said once


def test_a_worker_whose_file_has_other_weights_is_bad():
    copy = msgspec.structs.replace(ONE, content="d" * 64)
    lease = msgspec.structs.replace(LEASE, model=msgspec.structs.replace(ONE, content="e" * 64))
    found = examined(worker("pi2"), worker("pi3", model=copy), lease=lease)["cell-models"]
    assert found.status == "bad" and "aaaaaaaaaaaa-dddddd): pi3" in found.measured
    assert "(tiny.gguf, aaaaaaaaaaaa-eeeeee): hub pi1, pi2" in found.measured


def test_the_hubs_file_decides_and_else_ours():
    assert "hub pi1" in examined(model=file("b" * 64))["cell-models"].mend[0]
    alone = examined(worker("pi2"), lease=None, model=file("b" * 64))["cell-models"]
    assert "this device" in alone.mend[0] and "pi2" in alone.mend[0]


def test_no_name_from_the_network_gets_into_a_command():
    for found in (examined(worker("pi2", model=OTHER)), examined(worker("pi2"), lease=None, model=file("c" * 64))):
        commands = [line for line in found["cell-models"].mend if not line.startswith("#")]
        assert commands and not any("reboot" in line for line in commands)


def test_other_versions_of_the_protocol_are_bad():
    view = View()
    view.roster.hear("pi9", b'{"protocol":9}')
    found = {f.name: f for f in examine_cell(view)}["cell-versions"]
    assert found.status == "bad" and "pi9: it speaks protocol 9" in found.measured
    assert examined(lease=None, foreign="it speaks protocol 9")["cell-versions"].status == "bad"


def test_a_worker_that_refuses_for_another_reason_is_named():
    found = examined(worker("pi2", state="refused", reason="it cannot serve 9 positions"))["cell-members"]
    assert found.status == "warn" and "pi2 refuses: it cannot serve 9 positions" in found.measured


def test_a_worker_too_small_for_the_model_is_bad():
    found = examined(worker("pi2"), worker("pi3", memory_bytes=1 << 30), model=file("a" * 64, 2 * 10**9))
    assert found["cell-memory"].status == "bad" and found["cell-memory"].measured.startswith("pi3 (1.1 GB)")
    assert found["cell-memory"].mend[-1] == "llama-quantize --allow-requantize 'my model.gguf' smaller.gguf Q4_0"


def test_a_worker_that_datagrams_do_not_reach_is_named_with_the_hubs_reason():
    reached = Link(name="pi2", transport="udp", address="192.0.2.2:40000")
    silent = Link(name="pi3", transport="mqtt", reason="datagrams are not answered")
    found = examined(worker("pi2"), worker("pi3"), links=[reached, silent])["cell-datagrams"]
    assert (found.status, found.measured) == ("warn", "pi3: datagrams are not answered")
    assert examined(worker("pi2"), links=[reached])["cell-datagrams"].status == "ok"


def test_a_hub_that_was_told_to_use_mqtt_is_as_the_user_wants_it():
    found = examined(worker("pi2"), links=[Link(name="pi2", transport="mqtt")])["cell-datagrams"]
    assert found.status == "ok" and "--transport mqtt" in found.measured


def test_without_a_hub_a_worker_that_offers_no_datagrams_is_named():
    found = examined(worker("pi2"), worker("pi3", datagrams=None), lease=None)["cell-datagrams"]
    assert (found.status, found.measured) == ("warn", "pi3: it offers none")
