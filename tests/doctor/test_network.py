"""The network checks, on made-up systems."""

from __future__ import annotations

import json

import pytest

from halo.doctor import network

SHOW = "ip -j route show"
DEFAULT = {"dst": "default", "gateway": "192.168.1.1", "dev": "wlan0", "protocol": "dhcp", "metric": 600}
NEIGHBOURS = {
    "dst": "192.168.1.0/24",
    "dev": "wlan0",
    "protocol": "kernel",
    "scope": "link",
    "prefsrc": "192.168.1.20",
    "metric": 600,
}
RTO = "proc/sys/net/ipv4/tcp_rto_min_us"
CHOSEN = "proc/sys/net/ipv4/tcp_congestion_control"
AVAILABLE = "proc/sys/net/ipv4/tcp_available_congestion_control"
WLAN = {"sys/class/net/wlan0/wireless/status": "", "sys/class/net/wlan0/operstate": "up\n"}
POWER_SAVE = "iw dev wlan0 get power_save"


def routes(*listed):
    return {SHOW: json.dumps(listed)}


def quick(route):
    return {**route, "metrics": [{"rto_min": 10}]}


def test_the_kernels_default_of_200_ms_is_mended_at_the_route_to_the_neighbours(system):
    found = network.rto_min(system(programs=routes(DEFAULT, NEIGHBOURS)))
    assert (found.name, found.status) == ("tcp-rto-min", "warn")
    assert "200 ms" in found.measured
    assert found.mend[0] == (
        "sudo ip route change 192.168.1.0/24 dev wlan0 proto kernel scope link src 192.168.1.20 metric 600 rto_min 10ms"
    )


def test_where_the_kernel_has_a_setting_for_rto_min_that_is_the_mend(system):
    found = network.rto_min(system({RTO: "200000\n"}, routes(DEFAULT, NEIGHBOURS)))
    assert found.status == "warn"
    assert found.mend[0] == "sudo sysctl -w net.ipv4.tcp_rto_min_us=10000"
    assert network.rto_min(system({RTO: "10000\n"}, routes(DEFAULT, NEIGHBOURS))).status == "ok"


def test_the_rto_min_of_the_brokers_route_counts(system):
    far = {"dst": "10.0.0.0/8", "gateway": "192.168.1.7", "dev": "wlan0"}
    made = system(programs=routes(DEFAULT, NEIGHBOURS, quick(far)))
    assert network.rto_min(made, "10.1.2.3").status == "ok"
    assert network.rto_min(made, "192.168.1.9").status == "warn"
    assert network.rto_min(made, "127.0.0.1").status == "warn"  # its workers are elsewhere
    assert network.rto_min(system(programs=routes(DEFAULT, quick(NEIGHBOURS)))).status == "ok"


def test_a_device_without_a_network_or_without_ip_is_unknown(system):
    assert network.rto_min(system(programs=routes())).status == "unknown"
    assert network.rto_min(system(programs={SHOW: "garbage"})).status == "unknown"
    assert "'ip' is not installed" in network.rto_min(system()).measured


def test_cubic_is_warned_of_only_where_bbr_can_be_had(system):
    assert network.congestion(system({CHOSEN: "bbr\n"})).status == "ok"
    here = network.congestion(system({CHOSEN: "cubic\n", AVAILABLE: "reno cubic bbr\n"}))
    assert here.status == "warn"
    assert here.mend[0] == "sudo sysctl -w net.ipv4.tcp_congestion_control=bbr"


def test_bbr_that_is_a_module_is_loaded_first(system):
    files = {CHOSEN: "cubic\n", AVAILABLE: "reno cubic\n", "proc/sys/kernel/osrelease": "6.12.1-v8\n"}
    assert network.congestion(system(files)).status == "unknown"
    module = {"lib/modules/6.12.1-v8/kernel/net/ipv4/tcp_bbr.ko.xz": ""}
    assert network.congestion(system(files | module)).mend[0] == "sudo modprobe tcp_bbr"


def test_a_dozing_wifi_interface_is_bad_with_its_own_command(system):
    found = network.wifi_power_save(system(WLAN, {POWER_SAVE: "Power save: on\n"}))
    assert (found.status, found.measured) == ("bad", "wlan0: on")
    assert found.mend[0] == "sudo iw dev wlan0 set power_save off"
    assert network.wifi_power_save(system(WLAN, {POWER_SAVE: "Power save: off\n"})).status == "ok"


@pytest.mark.parametrize("programs", [{}, {POWER_SAVE: ""}])
def test_power_save_that_cannot_be_read_is_unknown(system, programs):
    assert network.wifi_power_save(system(WLAN, programs)).status == "unknown"


def test_wifi_that_is_down_or_absent_does_not_matter(system):
    down = {"sys/class/net/wlan0/phy80211/name": "", "sys/class/net/wlan0/operstate": "down\n"}
    assert network.wifi_power_save(system(down)).status == "ok"
    assert network.wifi_signal(system({"sys/class/net/eth0/operstate": "up"})).status == "ok"


@pytest.mark.parametrize("level, status", [("-50.", "ok"), ("-82.", "warn"), ("0", "unknown"), ("x", "unknown")])
def test_a_weak_signal_is_warned_of(system, level, status):
    table = f"Inter-| sta-|   Quality\n face | tus | link level noise\n wlan0: 0000   40.  {level}  -256  0\n"
    assert network.wifi_signal(system(WLAN | {"proc/net/wireless": table})).status == status


def test_buffers_are_what_a_socket_really_gets(system):
    small = network.udp_buffers(system(granted_buffer=lambda option, wanted: 212992))
    assert small.status == "warn"
    assert "208 KiB to receive" in small.measured
    assert "sudo sysctl -w net.core.rmem_max=1048576" in small.mend
    assert network.udp_buffers(system()).status == "ok"
