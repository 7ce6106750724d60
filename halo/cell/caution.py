"""Says once what it means to join a broker in the open: whoever controls it controls the cell."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from halo.cell.address import Address

_RESOLVE_S = 2.0
_said = False
"""Whether this process has said it; a hub that opens many cells says it once."""


async def caution(address: Address, log: Callable[[str], None]) -> None:
    """One line of the log, once a process, about a broker beyond this machine without TLS."""
    global _said
    if _said or address.tls or await is_loopback(address):
        return
    _said = True
    log(
        f"the broker at {address} is joined without TLS: whoever controls it, or the network on the way, controls this "
        "cell and can read what it computes. Use mqtts:// and a password; 'halo doctor' tells how"
    )


async def is_loopback(address: Address) -> bool:
    """Whether the broker is reached on this machine's loopback interface only; a name that is not known is not."""
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return False
    ips = [str(entry[4][0]).partition("%")[0] for entry in found]
    return bool(ips) and all(ipaddress.ip_address(ip).is_loopback for ip in ips)
