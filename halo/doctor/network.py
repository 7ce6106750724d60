"""What this device's network settings cost HALO: TCP under loss, Wi-Fi power save, socket buffers."""

from __future__ import annotations

import ipaddress
import json
import shlex
import socket
from typing import Any

from halo.doctor.finding import Finding, Unreadable, bad, named, ok, warn
from halo.doctor.system import System, sysctl

_RTO_MIN_MS = 50
"""More than a bad Wi-Fi's round trip; the kernel's own default is 200."""
_WANTED_BUFFER = 1 << 20
"""Four workers that answer a prompt batch of 32 rows at once: 4 x 32 rows x 2048 values of 4 bytes."""
_WEAK_DBM = -75
_RESTART = "# then restart HALO and mosquitto: open connections keep the old setting"


@named("tcp-rto-min")
def rto_min(system: System, broker_ip: str | None = None) -> Finding:
    """How long TCP waits at least before it sends a lost segment again; the route decides, then the sysctl."""
    own: int | None = None
    if text := system.try_read("proc/sys/net/ipv4/tcp_rto_min_us"):
        own = int(text) // 1000 if text.isdigit() else None
    route = _route(system, broker_ip)
    by_route = _metric(route)
    ms = by_route if by_route is not None else own if own is not None else 200
    where = f"the route to {route['dst']}" if by_route is not None else "this system"
    if ms <= _RTO_MIN_MS:
        return ok(f"{where} waits {ms} ms at least before it repeats a lost TCP segment")
    mend = (
        (*sysctl("net.ipv4.tcp_rto_min_us", "10000"), _RESTART)
        if own is not None and by_route is None
        else (
            f"sudo ip route change {_as_words(route)} rto_min 10ms",
            "# until the next start or reconnection: docs/doctor.md tells how to keep it",
        )
    )
    return warn(
        f"{where} waits {ms} ms at least before it repeats a lost TCP segment",
        f"over MQTT one lost packet can stall the token for {ms} ms; a token of TinyLlama with 4 workers is about 1400 "
        "packets, of which 1% loss takes 14",
        *mend,
    )


def _route(system: System, broker_ip: str | None) -> dict[str, Any]:
    """The route to the broker, or to the neighbours in the network through which the default route goes."""
    try:
        found = json.loads(system.run(["ip", "-j", "route", "show"]))
        routes: list[dict[str, Any]] = [
            r for r in found if isinstance(r.get("dst"), str) and isinstance(r.get("dev"), str)
        ]
    except (ValueError, AttributeError, TypeError):
        raise Unreadable("'ip -j route show' says nothing that can be read") from None
    default = [r for r in routes if r["dst"] == "default"]
    if broker_ip is not None and ":" not in broker_ip and not ipaddress.ip_address(broker_ip).is_loopback:
        fitting = [r for r in routes if r["dst"] != "default" and _holds(r["dst"], broker_ip)]
        fitting.sort(key=lambda r: -_network(r["dst"]).prefixlen)
    else:
        fitting = [r for r in routes if default and r["dev"] == default[0]["dev"] and r.get("scope") == "link"]
        fitting.sort(key=lambda r: "/" not in r["dst"])
    if not fitting + default:
        raise Unreadable("this device has no route to a network")
    return (fitting + default)[0]


def _network(text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        return ipaddress.IPv4Network("255.255.255.255/32")  # a word such as "unreachable": fits nothing


def _holds(text: str, ip: str) -> bool:
    return ipaddress.IPv4Address(ip) in _network(text)


def _metric(route: dict[str, Any]) -> int | None:
    """The route's rto_min in milliseconds."""
    for metrics in route.get("metrics") or []:
        value = metrics.get("rto_min") if isinstance(metrics, dict) else None
        if isinstance(value, int):
            return value
    return None


def _as_words(route: dict[str, Any]) -> str:
    """The route as `ip route change` wants it: without its metric it would be another route."""
    words = [str(route["dst"])]
    for word, key in (
        ("via", "gateway"), ("dev", "dev"), ("proto", "protocol"), ("scope", "scope"), ("src", "prefsrc"),
        ("metric", "metric"),
    ):  # fmt: skip
        if key in route:
            words += [word, str(route[key])]
    return " ".join(words)


@named("tcp-congestion")
def congestion(system: System) -> Finding:
    """Which congestion control new TCP connections get."""
    chosen = system.read("proc/sys/net/ipv4/tcp_congestion_control")
    if chosen.startswith("bbr"):
        return ok(f"{chosen}, which keeps its window under loss")
    available = system.try_read("proc/sys/net/ipv4/tcp_available_congestion_control").split()
    release = system.try_read("proc/sys/kernel/osrelease")
    module = bool(release and system.find(f"lib/modules/{release}/kernel/net/ipv4/tcp_bbr.ko*"))
    if "bbr" not in available and not module:
        raise Unreadable(f"{chosen}; whether this kernel has BBR cannot be seen ('sudo modprobe tcp_bbr' tells)")
    load = (
        () if "bbr" in available else ("sudo modprobe tcp_bbr", "echo tcp_bbr | sudo tee /etc/modules-load.d/halo.conf")
    )
    return warn(
        f"{chosen}, although this kernel has BBR",
        f"{chosen} takes every loss for a full network and closes its window: one connection to each of three workers "
        "loads a model at 14 MB/s with cubic and at 148 MB/s with BBR (5% loss, no delay added)",
        *load,
        *sysctl("net.ipv4.tcp_congestion_control", "bbr"),
        _RESTART,
    )


@named("wifi-power-save")
def wifi_power_save(system: System) -> Finding:
    """Whether a Wi-Fi interface that is in use dozes between packets."""
    interfaces = _wifi(system)
    if not interfaces:
        return ok("no Wi-Fi interface is in use")
    states = {
        name: system.run(["iw", "dev", name, "get", "power_save"]).rpartition(":")[2].strip() for name in interfaces
    }
    measured = ", ".join(f"{name}: {state or 'not told'}" for name, state in states.items())
    dozing = [name for name, state in states.items() if state == "on"]
    if not dozing:
        if all(state == "off" for state in states.values()):
            return ok(measured)
        raise Unreadable(measured)
    commands = [f"sudo iw dev {shlex.quote(name)} set power_save off" for name in dozing]
    return bad(
        measured,
        "the access point holds back what comes for a dozing device until its next beacon, 102 ms apart as a rule; a "
        "token of TinyLlama waits for 44 answers",
        *commands,
        "# to keep it (NetworkManager), then reconnect:",
        "printf '[connection]\\nwifi.powersave = 2\\n' | sudo tee /etc/NetworkManager/conf.d/halo-powersave.conf",
        "sudo systemctl reload NetworkManager",
    )


@named("wifi-signal")
def wifi_signal(system: System) -> Finding:
    """How strong the access point is heard (the fourth column of /proc/net/wireless, in dBm)."""
    interfaces = _wifi(system)
    if not interfaces:
        return ok("no Wi-Fi interface is in use")
    levels = {}
    for line in system.read("proc/net/wireless").splitlines():
        name, _, rest = line.partition(":")
        columns = rest.split()
        if name.strip() in interfaces and len(columns) > 2 and (level := _whole(columns[2])) is not None and level < 0:
            levels[name.strip()] = level
    if not levels:
        raise Unreadable(f"{', '.join(interfaces)}: the driver does not tell")
    measured = ", ".join(f"{name}: {level} dBm" for name, level in levels.items())
    if min(levels.values()) > _WEAK_DBM:
        return ok(measured)
    return warn(
        measured,
        f"below {_WEAK_DBM} dBm a link loses frames, repeats them, and sends slowly, and every other device of the "
        "channel waits meanwhile",
        "# bring device and access point closer, use 5 GHz or a cable, and look again:",
        "watch -n 1 cat /proc/net/wireless",
    )


def _whole(text: str) -> int | None:
    try:
        return round(float(text))
    except ValueError:
        return None


def _wifi(system: System) -> list[str]:
    """Wireless interfaces that are not down."""
    names = {path.split("/")[3] for kind in ("wireless", "phy80211") for path in system.find(f"sys/class/net/*/{kind}")}
    return sorted(name for name in names if system.try_read(f"sys/class/net/{name}/operstate") != "down")


@named("udp-buffers")
def udp_buffers(system: System) -> Finding:
    """What a datagram socket really gets when it asks for 1 MiB."""
    try:
        got = {
            "rmem_max": system.granted_buffer(socket.SO_RCVBUF, _WANTED_BUFFER),
            "wmem_max": system.granted_buffer(socket.SO_SNDBUF, _WANTED_BUFFER),
        }
    except OSError as error:
        raise Unreadable(f"no datagram socket can be had: {error.strerror}") from None
    measured = f"of 1024 KiB asked for, {got['rmem_max'] >> 10} KiB to receive and {got['wmem_max'] >> 10} KiB to send"
    small = [name for name, granted in got.items() if granted < _WANTED_BUFFER]
    if not small:
        return ok(measured)
    return warn(
        measured,
        "four workers that answer a prompt batch of 32 rows at once send 1024 KiB (4 x 32 x 2048 values of 4 bytes); "
        "what does not fit is lost as on a bad link",
        *(line for name in small for line in sysctl(f"net.core.{name}", str(_WANTED_BUFFER))),
    )
