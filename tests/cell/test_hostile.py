"""Whatever stands or comes on a cell's topics: the hub computes on, bit for bit, and the worker lives on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

import aiomqtt
import msgspec
import numpy as np
import pytest
from cell_helpers import HANG_S, HERE, eventually, peak_bytes, read_retained
from hypothesis import given
from hypothesis import strategies as st
from test_documents import LEASE, LINK, PLAN, PROFILE, WORK, documents

from halo import _native
from halo.cell import Cell, hub
from halo.cell.address import Address
from halo.cell.messages import Beat, Lease, Links, Profile, decode, encode
from halo.cell.roster import MOST_KNOWN
from halo.cell.topics import Topics
from halo.cell.view import _Ear, check_free
from halo.cli.cell_view import as_json, as_text
from halo.cli.watch import picture
from halo.doctor.cell import examine_cell
from halo.errors import CellError
from halo.model import open_model

TOPICS = Topics("halo")
ADDRESS = Address("pi1", 1883)
SESSION = "f" * 16
DOCUMENTS = (LEASE, PROFILE, PLAN, Beat(session=SESSION), Links(session=SESSION, links=[LINK], work=[WORK]))
HEADER = b"HALO\x03\x02" + bytes(58)
RUBBISH = {
    "empty": b"",
    "zeros": bytes(100),
    "noise": np.random.default_rng(1).bytes(4000),
    "huge": b"x" * (3 << 20),
    "huge JSON": b'{"protocol":3,"mood":"' + b"x" * (2 << 20) + b'"}',
    "deep": b"[" * 60_000,
    "no UTF-8": b'{"protocol":3,"session":"\xff\xfe"}',
    "null": b"null",
    "of another version": b'{"protocol":9,"halo":"9.0","hub":"\\u001b[2J"}',
    "a header": HEADER,
    "a header and noise": HEADER + np.random.default_rng(2).bytes(3000),
    "of another version of the wire": b"HALO\x09" + HEADER[5:],
    "paths": b'{"protocol":3,"session":"../../../../etc/passwd","hub":"/etc","name":"..","file":"/dev/zero"}',
    **{type(document).__name__: encode(document) for document in DOCUMENTS},
}
"""The last ones are good documents, on topics where they do not belong, or of nobody."""


def topics(session):
    return [
        TOPICS.beat,
        TOPICS.links,
        TOPICS.plan,
        TOPICS.profile("nobody"),
        TOPICS.profile("a"),
        TOPICS.request("a", 0, 1),
        TOPICS.request("a", 7, 9),
        TOPICS.request("nobody", 0, 1),
        TOPICS.partial(session, "a", 0),
        TOPICS.partial(session, "nobody", 3),
        TOPICS.partial(SESSION, "a", 0),
        TOPICS.doctor("x"),
        "halo/halo",
        "halo/halo/device/a/b/c/profile",
        f"halo/halo/device/{'x' * 200}/profile",
        "halo/halo/device/a/request/0/more",
    ]


def send(loop, address, messages):
    async def work():
        async with aiomqtt.Client(address.host, address.port) as client:
            client.pending_calls_threshold = 1000
            for topic, payload, retain in messages:
                await client.publish(topic, payload, 1, retain)

    loop.run(work(), HANG_S)


@pytest.fixture
def path(tiny_model):
    return tiny_model("Q8_0")


@pytest.mark.parametrize("transport", ["auto", "mqtt"])
def test_rubbish_on_every_topic_changes_nothing(launch, broker, loop, path, lines, transport, view):
    worker = launch([sys.executable, "-m", "halo.cli", "worker"], "a", model=path)
    options = {"plan": "even", "hub_share": 0.0, "n_ctx": 256, "log": lines.append, "transport": transport}
    tokens = np.arange(3, 9, dtype=np.int32)
    alone = _native.Engine(open_model(path).native, 256).forward(0, tokens, True)
    with Cell.open(open_model(path), broker=str(broker.address), workers=1, **options) as cell:

        def computes():
            before = cell.report()["devices"][1]["group_results"]
            cell.engine.truncate(0, 0)
            assert np.array_equal(cell.engine.forward(0, tokens, True), alone)
            return cell.report()["devices"][1]["group_results"] > before

        assert computes()
        session = cell._session.session
        for retain in (False, True):
            send(loop, broker.address, [(t, p, retain) for t in topics(session) for p in RUBBISH.values() if p])
            # On the lease's own topic; but another's valid lease would be that of another hub, which has the cell.
            send(loop, broker.address, [(TOPICS.lease, p, retain) for n, p in RUBBISH.items() if n != "Lease"])
            eventually(computes)
        assert cell.report()["workers"] == 1
        # The two have put right what others have written over.
        eventually(lambda: (seen := view()).lease is not None and seen.roster.profiles.get("a") is not None)
        assert view().lease.session == session
        assert worker.poll() is None
    said = "\n".join([*lines, worker.log.read_text()])
    assert "Traceback" not in said and "\x1b" not in said and "could not be handled" not in said
    worker.terminate()
    assert worker.wait(HANG_S) == 0
    assert not {TOPICS.lease, TOPICS.profile("a")} & set(read_retained(loop, broker.address))


@given(st.lists(documents(), max_size=6))
def test_whatever_is_let_in_can_be_shown(drawn):
    ear = _Ear(TOPICS)
    own = {Lease: TOPICS.lease, Profile: TOPICS.profile("pi2"), Links: TOPICS.links, Beat: TOPICS.beat}
    for document in (LEASE, PROFILE, Links(session=LEASE.session, links=[LINK], work=[WORK])):
        ear.hear(own[type(document)], encode(document), False)
    for document, payload in drawn:
        ear.hear(own.get(type(document), TOPICS.plan), payload, False)
    ear.look_at_clock(True)
    assert json.dumps(as_json("halo", ear.view))
    shown = [as_text("halo", ADDRESS, ear.view), *picture("halo", ADDRESS, ear.view, 80)]
    shown += [f"{finding.measured} {finding.mend}" for finding in examine_cell(ear.view)]
    assert all(c == "\n" or c.isprintable() for c in "".join(shown) if ord(c) < 0xA0)


def test_what_is_retained_is_no_sign_of_life(loop, broker):
    """Else a heartbeat that somebody has left behind would keep the cell for ever."""
    send(
        loop, broker.address, [(TOPICS.lease, encode(LEASE), True), (TOPICS.beat, encode(Beat(session=SESSION)), True)]
    )
    left = loop.run(check_free(broker.address, TOPICS), HANG_S)
    assert left == LEASE


@pytest.mark.parametrize("written", [b"rubbish", b'{"protocol":4}'])
def test_a_hub_puts_back_a_lease_that_is_written_over(loop, broker, open_cell, written):
    cell = open_cell(broker=str(broker.address))
    send(loop, broker.address, [(TOPICS.lease, written, True)])

    def lease():
        payload = read_retained(loop, broker.address).get(TOPICS.lease, b"")
        return payload != written and decode(Lease, payload)

    assert eventually(lease).session == cell._session.session


def test_thousands_of_profiles_that_nobody_is_behind_hold_nobody_up(loop, broker, open_cell, start_worker, lines, view):
    def ghost(i, state):
        profile = msgspec.structs.replace(PROFILE, name=f"ghost{i}", incarnation=f"{i:016x}", state=state)
        return (TOPICS.profile(profile.name), encode(profile), True)

    send(loop, broker.address, [ghost(i, "ready" if i % 2 else "idle") for i in range(3 * MOST_KNOWN)])
    send(loop, broker.address, [(TOPICS.profile(f"old{i}"), b'{"protocol":1}', True) for i in range(2 * MOST_KNOWN)])
    for name in "abc":
        start_worker(name)
    cell = open_cell(broker=str(broker.address), workers=3)
    assert {"a", "b", "c"} <= {device["name"] for device in cell.report()["devices"]}
    (told,) = [line for line in lines if "profiles of more than" in line]
    assert f"{MOST_KNOWN} devices" in told and f"-t '{TOPICS.all_profiles}' --remove-retained" in told
    seen = view()
    assert {"a", "b", "c"} <= set(seen.roster.profiles)
    assert len(seen.roster.profiles) == len(seen.roster.strangers) == MOST_KNOWN
    assert as_json("halo", seen)["left_out"] > 0
    assert "profiles of more than 512 devices" in as_text("halo", ADDRESS, seen)


def test_who_refuses_is_told_at_once_whatever_old_profiles_there_are(
    loop, broker, open_cell, start_worker, tmp_path, monkeypatch
):
    send(loop, broker.address, [(TOPICS.profile(PROFILE.name), encode(PROFILE), True)])
    other = tmp_path / "other.gguf"
    other.write_text("another model")
    start_worker("b", model=other)
    patience_s = 3 * HANG_S
    monkeypatch.setattr(hub, "_WORKERS_COME_S", patience_s)
    start = time.monotonic()
    with pytest.raises(CellError, match="b: it has another model"):
        open_cell(broker=str(broker.address), workers=1)
    assert time.monotonic() - start < patience_s, "the hub has waited as long as it could"


@pytest.mark.parametrize(
    "left", [b'{"protocol":2}', encode(msgspec.structs.replace(PROFILE, state="refused", reason="it was tired"))]
)
def test_what_a_device_that_is_gone_has_refused_stops_nobody(loop, broker, open_cell, lines, monkeypatch, left):
    send(loop, broker.address, [(TOPICS.profile(PROFILE.name), left, True)])
    cell = open_cell(broker=str(broker.address))
    assert cell.report()["workers"] == 0
    assert any(line.startswith(f"worker {PROFILE.name} does not take part") for line in lines)
    cell.close()
    monkeypatch.setattr(hub, "_WORKERS_COME_S", 1.5)
    with pytest.raises(
        CellError, match=f"Of {PROFILE.name} there is only a profile.*halo/halo/device.*--remove-retained"
    ):
        open_cell(broker=str(broker.address), workers=1)


def test_huge_retained_messages_cost_no_memory(loop, broker, launch, path):
    def peaks():
        worker = launch([sys.executable, "-m", "halo.cli", "worker"], "a", model=path)
        where = ["--broker", str(broker.address), "--workers", "1"]
        hub = subprocess.Popen([sys.executable, "-m", "halo.cli", "generate", "-m", path, "-p", "a", "-n", "1", *where])
        of_hub = 0
        while hub.poll() is None:
            with contextlib.suppress(FileNotFoundError, TypeError):  # it ends just now
                of_hub = max(of_hub, peak_bytes(hub.pid))
            time.sleep(0.01)
        assert hub.returncode == 0
        of_worker = peak_bytes(worker.pid)
        worker.terminate()
        assert worker.wait(HANG_S) == 0
        return np.array([of_hub, of_worker])

    before, size = peaks(), 32 << 20
    send(loop, broker.address, [(t, bytes(size), True) for t in (TOPICS.lease, TOPICS.plan, TOPICS.profile("nobody"))])
    assert (peaks() < before + size // 2).all()


@pytest.mark.parametrize("transport", ["udp", "mqtt"])
@pytest.mark.parametrize(
    "way, reason",
    [
        ("short", "wrong shape"),
        ("long", "wrong shape"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("version", "it speaks protocol version 9, this hub speaks 3"),
        ("none", None),
    ],
)
def test_a_worker_that_answers_badly_changes_no_result(launch, broker, path, lines, transport, way, reason):
    if transport == "udp" and _native.sealing_unavailable() is not None:
        pytest.skip("nothing can be sealed here")
    bad = launch([sys.executable, str(HERE / "bad_worker.py"), way], "bad", model=path)
    good = launch([sys.executable, "-m", "halo.cli", "worker"], "good", model=path)
    options = {"plan": "even", "hub_share": 0.0, "n_ctx": 256, "log": lines.append, "transport": transport}
    tokens = np.arange(3, 9, dtype=np.int32)
    alone = _native.Engine(open_model(path).native, 256, partials="f32").forward(0, tokens, True)
    with Cell.open(open_model(path), broker=str(broker.address), workers=2, partials="f32", **options) as cell:

        def computes():
            cell.engine.truncate(0, 0)
            for token in range(len(tokens)):
                logits = cell.engine.forward(0, tokens[token : token + 1], True)
                assert np.allclose(logits[0], alone[token], atol=1e-3)

        def is_told():
            computes()
            about = [line for line in lines if line.startswith("worker bad")]
            return reason is None or (len(about) == 1 and reason in about[0])

        eventually(is_told)
        computes()
        devices = {device["name"]: device for device in cell.report()["devices"]}
        assert devices["good"]["group_results"] > devices["bad"]["group_results"] == 0
        assert devices["bad"]["state"] == ("expelled" if reason else devices["bad"]["state"])
    for process in (bad, good):
        process.terminate()
        assert process.wait(HANG_S) == 0
        assert "Traceback" not in process.log.read_text()
