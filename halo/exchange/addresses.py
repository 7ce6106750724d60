"""This device's network addresses, as others may reach it."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915  # linux/sockios.h
_IF_INET6 = Path("/proc/net/if_inet6")
MOST = 8


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by itself."""
    if host in ("localhost", "ip6-localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def local_addresses(loopback: bool) -> list[str]:
    """Up to 8 addresses of the interfaces that are up, IPv4 first; 127.0.0.1 leads where `loopback` asks for it.

    Link-local IPv6 addresses mean nothing without an interface, and are left out.
    """
    found = [_ipv4(name) for _, name in socket.if_nameindex()] + _ipv6()
    usable = [a for a in found if a and not ipaddress.ip_address(a).is_loopback]
    if loopback or not usable:
        usable.insert(0, "127.0.0.1")
    return list(dict.fromkeys(usable))[:MOST]


def _ipv4(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    return ""


def _ipv6() -> list[str]:
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:
        return []
    all_of_them = [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in lines]
    return [str(a) for a in all_of_them if not (a.is_link_local or a.is_loopback)]
