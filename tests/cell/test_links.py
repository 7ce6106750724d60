"""What the hub tells of its links, and what a look at the cell makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from test_documents import LEASE, PROFILE

from halo.cell.address import Address
from halo.cell.links import counted_link, link_of
from halo.cell.messages import DatagramPlace, Lease, Link, Links, Profile, Sealing, Work, decode, encode
from halo.cell.view import View
from halo.cli.cell_view import as_json, as_text
from halo.cli.watch import fitting, picture
from halo.exchange.datagrams import HubDatagrams, WorkerDatagrams, in_one_line, why_unreached

STATE = {
    "offered": True,
    "alive": True,
    "address": "192.0.2.2:40000",
    "rtt_ms": 4.123456,
    "jitter_ms": 0.512345,
    "loss_to": 0.05078125,
    "loss_from": 1 / 3,
    "burst_to": 1.0,
    "burst_from": 1.0,
    "goodput": 543210.987,
    "packets": {"repairs": 3, "timeouts": 1, "packets_sent": 99},
}


class FakeNative:
    """As much of the native module as keys take."""

    NativeError = RuntimeError

    def __init__(self, unavailable=None):
        self.unavailable = unavailable
        self.drawn = 0
        self.served = []

    def sealing_unavailable(self):
        return self.unavailable

    def KeyPair(self):
        self.drawn += 1
        return SimpleNamespace(public=bytes([self.drawn] * 32), check=self._check)

    def _check(self, key):
        if not any(key):
            raise RuntimeError("of low order")

    def ciphers(self):
        return ["chacha20-poly1305", "aes-256-gcm"]

    def DatagramWorker(self, worker, port):
        return SimpleNamespace(port=40000, serve=self._serve, close=lambda: None)

    def _serve(self, *args):
        self._check(args[1])
        self.served.append(args)


def hub(transport="auto", unavailable=None):
    datagrams = HubDatagrams(FakeNative(unavailable), transport, loopback=False)
    datagrams.ciphers["pi2"] = "aes-256-gcm"
    return datagrams


def test_a_link_is_told_in_rounded_figures():
    link = link_of("pi2", STATE, hub())
    assert (link.rtt_ms, link.jitter_ms, link.loss_to, link.loss_from) == (4.123, 0.512, 0.0508, 0.3333)
    assert (link.goodput, link.repairs, link.timeouts, link.cipher) == (543211, 3, 1, "aes-256-gcm")
    assert decode(Links, encode(Links(session="0" * 16, links=[link]))).links == [link]
    assert counted_link("pi2", STATE, hub())["packets"] == STATE["packets"]


@pytest.mark.parametrize("transport, over", [("auto", "mqtt"), ("udp", "udp")])
def test_a_silent_worker_is_told_with_the_reason_and_without_old_figures(transport, over):
    link = link_of("pi2", STATE | {"alive": False}, hub(transport))
    assert (link.transport, link.reason) == (over, "datagrams are not answered")
    assert link.rtt_ms is None and link.goodput is None


def test_why_there_are_no_datagrams_is_told_unless_the_user_wanted_it_so():
    state = {"offered": False, "alive": False}
    assert link_of("pi2", state, hub("mqtt")) == Link(name="pi2", transport="mqtt")
    assert "cannot seal datagrams" in link_of("pi2", state, hub()).reason
    assert link_of("pi2", state, hub(unavailable="no libcrypto")).reason == "the hub has no datagrams: no libcrypto"


def test_packet_numbers_begin_anew_only_under_a_new_key():
    native = FakeNative()
    worker = WorkerDatagrams(native, None, "1" * 16, loopback=True)
    lease = Lease(**{**vars_of(LEASE), "datagrams": Sealing(key="ab" * 32, ciphers=["chacha20-poly1305"])})
    keys = set()
    for _ in range(3):
        worker.serve(lease)  # the same session each time, as after a lease that was cleared and came back
        keys.add(native.served[-1][0].public)
        assert worker.place().key == native.served[-1][0].public.hex()
        worker.close()
    assert len(keys) == 3
    assert isinstance(worker.place(), DatagramPlace)


def test_a_worker_serves_over_mqtt_where_the_key_of_the_lease_is_bad():
    worker = WorkerDatagrams(FakeNative(), None, "1" * 16, loopback=True)
    good = Lease(**{**vars_of(LEASE), "datagrams": Sealing(key="ab" * 32, ciphers=["chacha20-poly1305"])})
    bad = Lease(**{**vars_of(LEASE), "datagrams": Sealing(key="00" * 32, ciphers=["chacha20-poly1305"])})
    assert "low order" in worker.serve(bad)
    assert worker.place() is None
    assert worker.serve(good) == ""
    assert worker.place() is not None


def test_one_bad_offer_costs_that_worker_its_datagrams_and_no_other():
    def profile(name, key="ab" * 32, addresses=("192.0.2.1",)):
        place = DatagramPlace(key=key, ciphers=[], port=40000, addresses=list(addresses))
        return Profile(**{**vars_of(PROFILE), "name": name, "datagrams": place})

    datagrams = hub()
    bad = [profile("text", addresses=["1.2.3"]), profile("key", key="00" * 32), profile("none", addresses=[])]
    mixed = profile("mixed", addresses=["1.2.3", "224.0.0.1", "127.0.0.1", "192.0.2.7"])
    profiles = [*bad, profile("good"), mixed]
    offers = [datagrams.offer(p) for p in profiles]
    assert offers[:3] == [None] * 3
    assert [offer[3] for offer in offers[3:]] == [[("192.0.2.1", 40000)], [("192.0.2.7", 40000)]]
    links = [{"offered": offer is not None, "alive": True} for offer in offers]
    reasons = {p.name: why_unreached(p, link, datagrams.troubles) for p, link in zip(profiles, links, strict=True)}
    assert [bool(reason) for reason in reasons.values()] == [True, True, True, False, False]
    assert "low order" in reasons["key"] and "addresses" in reasons["text"]
    assert link_of("key", {"offered": False, "alive": False}, datagrams).reason == reasons["key"]
    assert "text, none: none of the addresses" in in_one_line(reasons)


def vars_of(document):
    return {field: getattr(document, field) for field in document.__struct_fields__}


def view(*links, session=LEASE.session, **changes):
    shown = View(lease=LEASE, beating=True, links=Links(session=session, links=list(links)), **changes)
    assert shown.roster.hear("pi2", encode(PROFILE))
    return shown


def test_links_of_another_session_are_not_shown():
    link = link_of("pi2", STATE, hub())
    assert view(link).link("pi2") == link
    assert view(link, session="f" * 16).link("pi2") is None
    assert view(link).link("pi3") is None


def work(name, **changes):
    return replace(Work(name=name, share=0.253, group_results=100, late_requests=12, late=[4, 0, 0, 0, 8]), **changes)


def pictured(*done, link=STATE, **changes):
    shown = view(link_of("pi2", link, hub()), **changes)
    shown.links = replace(shown.links, work=list(done))
    return picture("halo", "mqtt://pi1:1883", shown)


def row(lines, name, table=0):
    """The cells of a device's row in one of the two tables."""
    return [line.split() for line in lines if line.startswith(name + " ")][table]


def test_a_picture_shows_what_each_device_does_and_how_it_is_reached():
    lines = pictured(work("hub"), work("pi2", stand_ins=3, cache=0.75))
    assert row(lines, "hub") == ["hub", "-", "25%", "-", "<20", "ms", "-", "100%", "-", "-"]
    assert row(lines, "pi2") == ["pi2", "stable", "25%", "12", "<20", "ms", "3", "75%", "3", "1"]
    assert row(lines, "pi2", 1) == ["pi2", "udp", "4.12", "0.51", "5.1%", "33%", "543.2", "kB/s", "192.0.2.2:40000"]


def test_a_picture_says_who_is_missed_and_why():
    away = work("pi3", state="away", for_s=12.3)
    expelled = work("pi4", state="expelled", reason="wrong shape", late=[])
    lines = pictured(work("hub"), work("pi2"), away, expelled, link=STATE | {"alive": False})
    assert row(lines, "pi3")[1:3] == ["away", "12s"]  # although its profile is gone
    assert row(lines, "pi2", 1)[1:4] == ["mqtt", "-", "-"]
    assert lines[-2:] == [
        "pi2 is not reached over udp: datagrams are not answered",
        "pi4 is expelled: wrong shape",
    ]


def test_a_picture_before_the_hub_has_spoken_shows_the_profiles():
    lines = picture("halo", "mqtt://pi1:1883", replace_links(view(), None))
    assert row(lines, "pi2") == ["pi2", "idle", *["-"] * 7]
    away = picture("halo", "mqtt://pi1:1883", view(connected=False))
    assert len(away) == 1 and "the broker at mqtt://pi1:1883 is away" in away[0]


def test_who_is_of_another_version_or_refuses_is_named_in_every_form():
    shown = View(foreign_hub="pi1: it speaks protocol 9")
    shown.roster.hear("pi2", encode(replace(PROFILE, state="refused", reason="it has another model")))
    shown.roster.hear("pi3", b'{"protocol":9}')
    refused, stranger = "pi2 refused: it has another model", "pi3: it speaks protocol 9"
    address = Address("pi1", 1883)
    for lines in (picture("halo", address, shown), as_text("halo", address, shown).splitlines()):
        assert refused in lines and any(line.startswith(stranger) for line in lines)
        assert "pi1: it speaks protocol 9" in lines[0]
    document = as_json("halo", shown)
    assert document["foreign_hub"] == "pi1: it speaks protocol 9"
    assert document["strangers"]["pi3"].startswith("it speaks protocol 9")


def replace_links(shown, links):
    shown.links = links
    return shown


def test_a_picture_of_a_cell_of_eight_fits_into_a_terminal():
    """80 columns and 24 lines, with the largest figures that are to be expected."""
    names = [f"worker-{i}" for i in range(1, 9)]
    link = STATE | {"address": "192.168.100.123:52234", "rtt_ms": 1234.5, "jitter_ms": 123.4, "goodput": 99.9e6}
    link |= {"loss_to": 1.0, "loss_from": 1.0, "packets": {"repairs": 1234567, "timeouts": 12345}}
    figures = {"state": "probation", "share": 1.0, "late_requests": 12345, "late": [0] * 7 + [9], "stand_ins": 12345}
    done = [work("hub"), *(work(name, **figures) for name in names)]
    shown = View(lease=LEASE, beating=True, links=Links(session=LEASE.session, links=[], work=done))
    shown.links = replace(shown.links, links=[link_of(name, link, hub()) for name in names])
    lines = picture("halo", "mqtt://pi1:1883", shown)
    assert len(lines) < 24
    assert max(len(line) for line in lines[1:]) <= 80


def test_a_picture_never_exceeds_the_terminal():
    lines = [str(i) for i in range(30)]
    assert fitting(lines, 30) == lines
    assert len(fitting(lines, 10)) == 10 and fitting(lines, 10)[-1].startswith("and 21 more lines")
