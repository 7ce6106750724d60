"""Names, URLs and control documents: what is let in, and that nothing else is."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo.cell.address import Address
from halo.cell.messages import (
    BadDocument,
    Beat,
    DatagramPlace,
    Lease,
    Link,
    Links,
    ModelId,
    OtherProtocol,
    Plan,
    Profile,
    Sealing,
    Work,
    decode,
    encode,
)
from halo.cell.roster import MOST_KNOWN, Roster
from halo.cell.topics import Topics, is_name
from halo.errors import BrokerError, CellError
from halo.words import clean

MODEL = ModelId("ab" * 32, "TinyLlama", "tinyllama.gguf")
SEALING = Sealing(key="cd" * 32, ciphers=["chacha20-poly1305"])
PLACE = DatagramPlace(key="cd" * 32, ciphers=["chacha20-poly1305"], port=52000, addresses=["192.168.1.12"])
LEASE = Lease(
    session="0" * 16,
    hub="pi1",
    model=MODEL,
    n_ctx=2048,
    slots=1,
    partials="fixed",
    halo="0.1.0",
    since=1.5,
    datagrams=SEALING,
)
PROFILE = Profile(
    name="pi2",
    incarnation="1" * 16,
    isa="neon",
    threads=4,
    cores=4,
    memory_bytes=8 << 30,
    exchanges=["mqtt"],
    model=MODEL,
    session="",
    state="idle",
    reason="",
    datagrams=PLACE,
)
LINK = Link(name="pi2", transport="udp", rtt_ms=4.1, loss_to=0.05, goodput=10**6, repairs=2)
WORK = Work(name="pi2", state="away", for_s=2.5, share=0.25, late_requests=2, late=[1, 0, 1], cache=0.5)
PLAN = Plan(session="f" * 16, shards={"pi2": (1, 3), "pi3": None})
DOCUMENTS = [LEASE, PROFILE, Beat(session="f" * 16), Links(session="f" * 16, links=[LINK], work=[WORK]), PLAN]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_documents_come_back_as_they_went(document):
    assert decode(type(document), encode(document)) == document


def with_more(value):
    """The same with a field that is not known, in every object."""
    if isinstance(value, dict):
        known = {key: with_more(inner) for key, inner in value.items()}
        return known if "pi2" in value else known | {"mood": ["good", {"deep": None}]}  # names of devices are no fields
    return [with_more(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_fields_of_later_versions_are_ignored(document):
    assert decode(type(document), msgspec.json.encode(with_more(msgspec.to_builtins(document)))) == document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(
    "version, fields, wanted",
    [
        (2, {}, r"it speaks protocol 2, this device 3 \(halo .*\): update HALO there"),
        (2, {"halo": "0.0.9"}, r"it speaks protocol 2 \(halo 0\.0\.9\), this device 3 \(halo .*\): update HALO there"),
        (4, {"halo": "0.3\n"}, r"it speaks protocol 4 \(halo 0\.3\?\), this device 3 \(halo .*\): update HALO here"),
        (4, {"halo": [1], "hub": {"a": 1}, "session": 7}, r"it speaks protocol 4, this device"),
    ],
)
def test_another_protocol_is_refused_by_name_whatever_else_is_in_it(document, version, fields, wanted):
    other = msgspec.to_builtins(document) | {"protocol": version} | fields
    if "halo" not in fields:
        other.pop("halo", None)
    with pytest.raises(OtherProtocol, match=wanted):
        decode(type(document), json.dumps(other).encode())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("version", [None, "3", 3.5, -1, 2**40, [3], True])
def test_a_version_that_is_none_is_a_bad_document(document, version):
    with pytest.raises(BadDocument) as caught:
        decode(type(document), json.dumps(msgspec.to_builtins(document) | {"protocol": version}).encode())
    assert not isinstance(caught.value, OtherProtocol)


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_document_and_nothing_worse(payload):
    for kind in (Lease, Beat, Profile, Plan, Links):
        with pytest.raises(BadDocument):
            decode(kind, payload)


@st.composite
def documents(draw):
    """One of the documents, and its JSON with some values replaced by any others."""
    document = draw(st.sampled_from(DOCUMENTS))
    fields = msgspec.to_builtins(document)
    for _ in range(draw(st.integers(1, 3))):
        place = fields
        while True:  # somewhere in there
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not (place[key] and isinstance(place[key], dict | list) and draw(st.booleans())):
                break
            place = place[key]
        place[key] = draw(JSON | st.sampled_from([0, 1, 2**31 - 1, 2**53, 1e308, "pi2", "f" * 16, "ready", "udp"]))
    return document, json.dumps(fields).encode()


@given(documents())
def test_wrong_values_anywhere_make_a_bad_document_and_nothing_worse(drawn):
    document, payload = drawn
    try:
        accepted = decode(type(document), payload)
    except BadDocument:
        return
    assert encode(accepted)  # whatever is let in is a document


@given(st.sampled_from(DOCUMENTS), st.data())
def test_a_damaged_document_is_a_bad_one_or_a_document(document, data):
    payload = bytearray(encode(document))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(0, len(payload))) or len(payload) :]
    try:
        accepted = decode(type(document), bytes(payload))
    except BadDocument:
        return
    assert encode(accepted)


@pytest.mark.parametrize("payload", [b"[" * 60_000, b'{"protocol":' * 5_000, b" " * 70_000, b'{"protocol":1e400}'])
def test_hostile_sizes_are_bad_documents(payload):
    with pytest.raises(BadDocument):
        decode(Lease, payload)


@pytest.mark.parametrize(
    "field, value",
    [
        ("name", "../x"),
        ("name", "pi2\n"),
        ("name", "x" * 64),
        ("incarnation", "g" * 16),
        ("incarnation", "1" * 16 + "\n"),
        ("reason", "\x1b[2J"),
        ("reason", "\u202etxt.exe"),
        ("reason", "\u2066x"),
        ("reason", "a\u2028b"),
        ("model", {"identity": "ab" * 32, "name": "x" * 201, "file": "m.gguf"}),
        ("model", {"identity": "ab" * 32, "name": "m", "file": "x" * 256}),
        ("cores", -1),
        ("cores", True),
        ("memory_bytes", 2**70),
        ("state", "busy"),
        ("session", "12"),
        ("exchanges", ["mqtt"] * 17),
    ],
)
def test_fields_have_limits(field, value):
    fields = msgspec.to_builtins(PROFILE) | {field: value}
    with pytest.raises(BadDocument):
        decode(Profile, json.dumps(fields).encode())


@given(st.text())
def test_cleaned_text_fits_into_a_document(text):
    document = msgspec.structs.replace(PROFILE, reason=clean(text))
    assert decode(Profile, encode(document)) == document


def test_a_profile_counts_only_on_its_own_topic():
    roster = Roster()
    assert not roster.hear("pi3", encode(PROFILE))
    assert roster.hear("pi2", encode(PROFILE))
    assert (set(roster.profiles), roster.ignored) == ({"pi2"}, 1)
    assert roster.hear("pi2", b"")
    assert not roster.profiles


def profile(name, **fields):
    return encode(msgspec.structs.replace(PROFILE, name=name, **fields))


def test_who_serves_and_who_was_heard_of_last_is_known_of_more_than_there_is_room_for():
    session = "5" * 16
    roster = Roster(session)
    assert roster.hear("serves", profile("serves", state="loading", session=session))
    for i in range(2 * MOST_KNOWN):
        assert roster.hear(f"ghost{i}", profile(f"ghost{i}", state="ready", session="6" * 16), retained=True)
    assert roster.hear("comes", profile("comes", state="idle", session=""))
    assert len(roster.profiles) == MOST_KNOWN and roster.left_out == MOST_KNOWN + 2
    assert {"serves", "comes", f"ghost{2 * MOST_KNOWN - 1}"} <= set(roster.profiles)
    assert roster.serving() == ["serves"]
    assert roster.undecided(heard_only=True) == ["comes", "serves"]
    assert len(roster.undecided(heard_only=False)) == MOST_KNOWN
    assert roster.hear("serves", profile("serves", state="ready", session=session))
    assert roster.hear("serves", b"") and roster.hear("other", profile("other", state="idle", session=""))
    assert len(roster.profiles) == MOST_KNOWN


def test_a_cell_full_of_those_that_serve_takes_no_more():
    session = "5" * 16
    roster = Roster(session)
    for i in range(MOST_KNOWN):
        assert roster.hear(f"pi{i}", profile(f"pi{i}", state="ready", session=session))
    assert not roster.hear("late", profile("late", state="ready", session=session))
    assert len(roster.ready()) == MOST_KNOWN and roster.left_out == 1
    assert roster.hear("pi0", profile("pi0", state="refused", session="", reason="it is tired"))
    assert roster.hear("late", profile("late", state="ready", session=session))
    assert "late" in roster.ready() and "pi0" not in roster.profiles


def test_strangers_are_known_up_to_a_number():
    roster = Roster()
    for i in range(MOST_KNOWN + 5):
        roster.hear(f"pi{i}", b'{"protocol":7}')
    assert (len(roster.strangers), roster.left_out) == (MOST_KNOWN, 5)


def test_a_device_of_another_protocol_is_reported():
    roster = Roster()
    roster.hear("pi9", b'{"protocol":7}')
    assert roster.refusals()["pi9"].startswith("it speaks protocol 7, this device 3 (halo ")


@pytest.mark.parametrize("name", ["", "-a", "a/b", "a b", "ä", "a+", "#", "$x", "a" * 64, "a\n", ".."])
def test_names_that_could_not_stand_in_a_topic(name):
    assert not is_name(name)
    with pytest.raises(CellError, match="cannot be the name of a cell"):
        Topics(name)


def test_topics_are_read_back_strictly():
    topics = Topics("lab")
    assert topics.profile_owner(topics.profile("pi2")) == "pi2"
    assert topics.partial_sender(topics.partial("0" * 16, "pi2", 3), "0" * 16) == "pi2"
    assert topics.partial_sender(topics.partial("0" * 16, "pi2", 3), "1" * 16) is None
    assert topics.copies(topics.request("pi2", 3, 2)) == 2
    assert [topics.copies(f"halo/lab/device/pi2/request/0/{last}") for last in ("0", "", "-1", "12", "x", "²")] == [
        1
    ] * 6
    assert topics.profile_owner("halo/lab/device/a/b/profile") is None
    assert topics.profile_owner("halo/lab/device//profile") is None
    assert topics.profile_owner("halo/other/device/a/profile") is None


@pytest.mark.parametrize(
    "text, shown, user, password",
    [
        ("mqtt://pi1", "mqtt://pi1:1883", None, None),
        ("mqtts://pi1", "mqtts://pi1:8883", None, None),
        ("pi1", "mqtt://pi1:1883", None, None),
        ("pi1:1884", "mqtt://pi1:1884", None, None),
        ("mqtt://me:p%40ss@pi1:99/", "mqtt://pi1:99", "me", "p@ss"),
        ("mqtt://[::1]:99", "mqtt://[::1]:99", None, None),
        ("mqtt://[fe80::1%eth0]", "mqtt://[fe80::1%eth0]:1883", None, None),
        ("mqtt://[fe80::1%25eth0]:99", "mqtt://[fe80::1%eth0]:99", None, None),  # as RFC 6874 has it
        ("mqtt://[fe80::1%25]", "mqtt://[fe80::1%25]:1883", None, None),  # the interface with the number 25
    ],
)
def test_broker_urls(text, shown, user, password):
    address = Address.parse(text)
    assert (str(address), address.user, address.password) == (shown, user, password)
    assert "p@ss" not in repr(address)


@given(st.text(max_size=40) | st.text("mqts:/@[]%0123.#? \n\u0663", max_size=20))
def test_any_text_is_an_address_or_a_broker_error(text):
    try:
        address = Address.parse(text)
    except BrokerError:
        return
    assert address.host and 0 < address.port < 65536 and not any(c.isspace() for c in address.host)
    address.host.encode("idna")  # as it is looked up


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://me:secret@pi1",
        "mqtt://me:secret",
        "me:secret/x",
        "mqtt://me:secret@",
        "mqtt://me:secret@pi1:99999",
        "mqtt://me:secret@pi1:0",
        "mqtt://me:secret@::1",
        "mqtt://me:secret@[::1",
        "mqtt://pi1/topic",
        "mqtt://a b",
        "mqtt://me:secret/x@pi1",
        "mqtt://me:secret#x@pi1",
        "mqtt://me:secret?x@pi1",
        "mqtt://me:secret@pi1..local",
        "mqtt://me:secret@.",
        f"mqtts://me:secret@{'a' * 64}.local",
        "mqtt://me:secret@pi1\0",
        "mqtt://me:secret\udcff@pi1",
    ],
)
def test_wrong_broker_urls_are_explained_without_the_password(text):
    with pytest.raises(BrokerError, match="is not the address of an MQTT broker") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text, why",
    [
        ("mqtt://pi1:70000", "its port is not between 1 and 65535"),
        ("mqtt://me:pw@pi1:70000", "its port is not between 1 and 65535"),
        ("mqtt://pi1:0", "its port is not between 1 and 65535"),
        ("mqtt://pi1:port", "its port is no number"),
        ("pi1:1:2", "its port is no number"),
        ("::1", r"an IPv6 address stands in brackets, as in mqtt://\[::1\]:1883"),
        ("mqtt://::1", "an IPv6 address stands in brackets"),
        ("mqtt://me:pw@fe80::1%eth0:1883", "an IPv6 address stands in brackets"),
        ("mqtt://[::1", "an IPv6 address stands in brackets"),
        ("mqtt://pi1/topic", "something other than host and port follows the scheme"),
    ],
)
def test_what_is_wrong_with_a_broker_url_is_said(text, why):
    with pytest.raises(BrokerError, match=f": {why}"):
        Address.parse(text)
