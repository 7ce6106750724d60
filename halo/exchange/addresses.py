"""This device's network addresses, as others may reach it."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_SIOCGIFADDR = 0x8915  # linux/sockios.h
_IF_INET6 = Path("/proc/net/if_inet6")
MOST = 8
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by itself."""
    if host in ("localhost", "ip6-localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def reachable(addresses: Iterable[str], loopback: bool) -> list[str]:
    """Up to 8 of the addresses that another device has announced: those that name one machine, which this one may try.

    Left out, whoever announced them: what is no address, groups of machines (multicast, broadcast), no machine at all,
    link-local IPv6, and, unless `loopback`, this machine itself.
    """
    found: list[str] = []
    for text in addresses:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(text)
            address = getattr(address, "ipv4_mapped", None) or address
            if _names_one_machine(address) and (loopback or not address.is_loopback):
                found.append(str(address))
    return list(dict.fromkeys(found))[:MOST]


def _names_one_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.version == 6 and address.is_link_local:
        return False
    return not (address.is_multicast or address.is_unspecified or address == _BROADCAST)


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
