"""The laboratory's network does what it is asked for, as far as counting can tell."""

from __future__ import annotations

import itertools
import socket
import subprocess
import time
from contextlib import ExitStack
from math import sqrt

import pytest

from benchmarks.lab import Conditions, Lab, LabError, address
from benchmarks.lab.echo import echo
from tests.lab.conftest import MakeLab
from tests.lab.traffic import PORT, counted, wire, within

WAYS = [(0, 1), (1, 0), (1, 2)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("source", "target"), WAYS)
def test_everything_arrives_once_and_in_order(any_lab: MakeLab, source: int, target: int, version: int) -> None:
    with wire(any_lab(3), source, target, version) as way:
        way.send(500)
        way.await_arrivals(500)
    assert way.arrived == list(range(500))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("source", "target"), WAYS[:2])
def test_as_many_frames_are_lost_as_asked(any_lab: MakeLab, source: int, target: int, version: int) -> None:
    n, loss = 4000, 0.1
    lab = any_lab(2, Conditions(loss=loss))
    before = counted(lab, source, target)
    with wire(lab, source, target, version) as way:
        way.send(n)
        lost = (counted(lab, source, target) - before).lost
        way.await_arrivals(n - lost)
    spent = counted(lab, source, target) - before
    assert n <= spent.frames <= n + 20  # the kernel itself says a few words in IPv6
    assert abs(spent.lost - (n - len(way.arrived))) <= 20
    assert within(n - len(way.arrived), n * loss, sqrt(n * loss * (1 - loss)))


def test_random_losses_come_alone(make_lab: MakeLab) -> None:
    assert 1 <= _mean_run(make_lab(2, Conditions(loss=0.1))) < 1.35


def test_bursts_have_the_mean_that_was_asked_for_and_the_loss_too(make_lab: MakeLab) -> None:
    n, loss, burst = 6000, 0.2, 4
    lab = make_lab(2, Conditions(loss=loss, burst=burst))
    assert abs(_mean_run(lab, n) - burst) < 1.2
    assert within(lab.counters(1)[0].lost, n * loss, sqrt(n * loss * (1 - loss) * (2 * burst - 1)))


def _mean_run(lab: Lab, n: int = 4000) -> float:
    with wire(lab, 0, 1) as way:
        way.send(n)
        way.await_arrivals(n - lab.counters(1)[0].lost)
    there = set(way.arrived)
    runs = [sum(1 for _ in run) for lost, run in itertools.groupby(range(n), lambda i: i not in there) if lost]
    return sum(runs) / len(runs)


def test_fades_take_their_share_of_the_time_and_come_to_each_worker_alone(make_lab: MakeLab) -> None:
    share, hosts = 0.3, 5
    lab = make_lab(hosts, Conditions(loss=share, fade_ms=5))
    with lab.inside(0), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub:
        for _ in range(2000):
            for host in range(1, hosts):
                hub.sendto(b"x", (address(host), PORT))
            time.sleep(0.001)
    time.sleep(0.05)
    lost = [lab.counters(host)[0].lost for host in range(1, hosts)]
    assert 0.2 < sum(lost) / (2000 * (hosts - 1)) < 0.4  # some 500 fades
    assert len(set(lost)) > 1


def test_a_fade_silences_both_directions(make_lab: MakeLab) -> None:
    lab = make_lab(2, Conditions(loss=0.5, fade_ms=100))
    with wire(lab, 0, 1) as down, wire(lab, 1, 0) as up:
        for _ in range(1000):
            down.send(1)
            up.send(1)
        time.sleep(0.05)
    there, back = set(down.arrived), set(up.arrived)
    assert sum((i in there) == (i in back) for i in range(1000)) > 900


def test_what_is_delayed_is_overtaken_by_what_is_sent_later_without(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    with wire(lab, 0, 1) as way:
        way.send(10)
        way.await_arrivals(10)
        lab.set(Conditions(delay_us=300_000))
        start = time.monotonic()
        way.send(10)
        time.sleep(0.05)
        lab.set(Conditions())
        way.send(10)
        way.await_arrivals(21)
        assert time.monotonic() - start >= 0.3  # at least: how much longer is the machine's affair
        way.await_arrivals(30)
    assert way.arrived == [*range(10), *range(20, 30), *range(10, 20)]


def test_duplicates_are_counted_and_come_twice(make_lab: MakeLab) -> None:
    n, share = 3000, 0.1
    lab = make_lab(2, Conditions(duplicate=share))
    with wire(lab, 0, 1) as way:
        way.send(n)
        way.await_arrivals(n + lab.counters(1)[0].duplicated)
    assert len(way.arrived) == n + lab.counters(1)[0].duplicated
    assert set(way.arrived) == set(range(n))
    assert within(len(way.arrived) - n, n * share, sqrt(n * share * (1 - share)))


def test_reordered_frames_are_overtaken_and_none_is_lost(make_lab: MakeLab) -> None:
    n, share = 3000, 0.1
    lab = make_lab(2, Conditions(reorder=share, delay_us=1000))
    with wire(lab, 0, 1) as way:
        way.send(n)
        way.await_arrivals(n)
    assert sorted(way.arrived) == list(range(n))
    late = sum(b < a for a, b in itertools.pairwise(way.arrived))
    assert 0 < late <= lab.counters(1)[0].reordered
    assert within(lab.counters(1)[0].reordered, n * share, sqrt(n * share * (1 - share)))


def test_all_hosts_share_one_medium(make_lab: MakeLab) -> None:
    lab = make_lab(3, Conditions(rate_kbit=10_000, frame_us=500))
    with wire(lab, 0, 1) as down, wire(lab, 2, 0) as up:
        start = time.monotonic()
        down.send(50, size=1000)
        up.send(50, size=1000)
        down.await_arrivals(50)
        up.await_arrivals(50)
        taken = time.monotonic() - start
    assert len(down.arrived) == len(up.arrived) == 50
    assert taken >= 100 * (1042 * 8 / 10e6 + 500e-6)


def test_a_medium_that_is_overloaded_drops_frames_and_says_so(make_lab: MakeLab) -> None:
    lab = make_lab(2, Conditions(rate_kbit=8000))
    with wire(lab, 0, 1) as way:
        way.send(1000, size=1400)  # 1.4 seconds of it; what would wait longer than half a second is not queued
        dropped = lab.counters(1)[0].dropped
        way.await_arrivals(1000 - dropped)
    assert 0 < dropped < 1000
    assert len(way.arrived) == 1000 - dropped


def test_conditions_change_while_it_runs(any_lab: MakeLab) -> None:
    lab = any_lab(2)
    with wire(lab, 0, 1) as way:
        way.send(10)
        way.await_arrivals(10)
        lab.set(Conditions(loss=1))
        way.send(10)
        time.sleep(0.05)
        lab.set(Conditions())
        way.send(10)
        way.await_arrivals(20)
    assert way.arrived == [*range(10), *range(20, 30)]


def test_one_workers_link_is_cut_and_healed_while_the_others_go_on(any_lab: MakeLab) -> None:
    lab = any_lab(3)
    ways = [(0, 1), (1, 0), (0, 2), (2, 0), (2, 1)]
    with ExitStack() as stack:
        wires = [stack.enter_context(wire(lab, *way, port=PORT + i)) for i, way in enumerate(ways)]
        for number, host_1 in enumerate((Conditions(), Conditions(loss=1), Conditions())):
            lab.set(host_1, host=1)
            for one in wires:
                one.send(10)
            for one, way in zip(wires, ways, strict=True):
                one.await_arrivals(10 * (1 if 1 in way and number == 1 else number + 1))
    whole, cut = list(range(30)), [*range(10), *range(20, 30)]
    assert [one.arrived for one in wires] == [cut, cut, whole, whole, cut]


def test_one_worker_loses_as_many_frames_as_asked_and_the_others_none(any_lab: MakeLab) -> None:
    n, loss = 4000, 0.1
    lab = any_lab(3)
    lab.set(Conditions(loss=loss), host=2)
    with wire(lab, 0, 1) as good, wire(lab, 0, 2) as bad:
        good.send(n)
        bad.send(n)
    assert lab.counters(1)[0].lost == 0
    assert within(lab.counters(2)[0].lost, n * loss, sqrt(n * loss * (1 - loss)))


def test_conditions_for_all_replace_those_of_one(any_lab: MakeLab) -> None:
    lab = any_lab(2)
    with wire(lab, 0, 1) as way:
        lab.set(Conditions(loss=1), host=1)
        way.send(10)
        lab.set(Conditions())
        way.send(10)
        way.await_arrivals(10)
    assert way.arrived == list(range(10, 20))


def test_one_link_may_be_slower_than_the_others(make_lab: MakeLab) -> None:
    lab = make_lab(3)
    lab.set(Conditions(delay_us=300_000), host=1)
    with wire(lab, 0, 1) as slow, wire(lab, 0, 2) as fast:
        slow.send(10)
        fast.send(10)
        fast.await_arrivals(10)
        assert not slow.arrived
        slow.await_arrivals(10)
    assert slow.arrived == fast.arrived == list(range(10))


@pytest.mark.parametrize("host", [-1, 0, 3])
def test_who_is_no_worker_has_no_link(any_lab: MakeLab, host: int) -> None:
    with pytest.raises(LabError, match="workers are hosts 1 to 2"):
        any_lab(3).set(Conditions(loss=1), host=host)


def test_nobody_has_a_medium_of_its_own(make_lab: MakeLab) -> None:
    with pytest.raises(LabError, match="share one medium"):
        make_lab(2).set(Conditions(rate_kbit=1000), host=1)


def test_one_loss_hits_one_packet(any_lab: MakeLab) -> None:
    """Neither TCP nor UDP gets a frame through that is larger than the interface's."""
    lab = any_lab(2)
    before = lab.counters(1)[0]
    with lab.inside(1), socket.create_server((address(1), PORT)) as server:
        with lab.inside(0):
            client = socket.create_connection((address(1), PORT))
        with client, server.accept()[0] as connection:
            client.sendall(bytes(200_000))
            client.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
    sent = lab.counters(1)[0] - before
    assert sent.bytes <= 1514 * sent.frames
    with wire(lab, 0, 1) as way:
        way.sender.setsockopt(socket.IPPROTO_UDP, 103, 500)  # UDP_SEGMENT: one call, several datagrams
        before = lab.counters(1)[0]
        way.sender.sendto(bytes(2500), way.target)
        way.await_arrivals(5)
    told = lab.counters(1)[0] - before
    assert told.frames >= 5  # and what TCP or IPv6 still had to say
    assert told.bytes <= 5 * 542 + 100 * (told.frames - 5)


def test_the_same_seed_loses_the_same_frames(make_lab: MakeLab) -> None:
    arrived = []
    for _ in range(2):
        with wire(make_lab(2, Conditions(loss=0.3), seed=7), 0, 1) as way:
            way.send(300)
            way.await_arrivals(300 - 90)
        arrived.append(way.arrived)
    assert arrived[0] == arrived[1]


def test_an_interface_may_go_down_and_come_back(make_lab: MakeLab) -> None:
    lab = make_lab(3)
    with wire(lab, 0, 1) as way, wire(lab, 0, 2) as other:
        subprocess.run(lab.command(1, "ip", "link", "set", "eth0", "down"), check=True)
        way.send(5)
        other.send(5)
        other.await_arrivals(5)
        subprocess.run(lab.command(1, "ip", "link", "set", "eth0", "up"), check=True)
        way.send(5)
        way.await_arrivals(5)
    assert other.arrived == list(range(5))
    assert way.arrived == list(range(5, 10))


def test_hosts_have_the_congestion_control_that_was_asked_for(make_lab: MakeLab) -> None:
    lab = make_lab(2, congestion="reno")
    with lab.inside(1), socket.socket() as one:
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"


def test_the_kernel_refuses_what_it_cannot_do(make_lab: MakeLab) -> None:
    with pytest.raises(LabError, match="random loss alone"):
        make_lab(2, kernel=True).set(Conditions(delay_us=1000))


def test_echoes_come_back_from_every_worker(make_lab: MakeLab) -> None:
    assert len(echo(make_lab(4), 2240, 4160, 20)) == 20
