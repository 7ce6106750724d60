"""A laboratory's network without a process of its own: a bridge, and filters that lose frames at random.

It delays nothing, and costs next to no processor time, which matters where the hosts share a few cores. A frame to a
host is lost where that host receives it, and a frame from it where the bridge does: no sender ever learns of it.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
from collections.abc import Callable
from ctypes import addressof, c_char, create_string_buffer
from pathlib import Path

from .conditions import Conditions, Counters, LabError
from .namespace import inside, tool
from .shared import check_host

_SIOCETHTOOL, _GET_FEATURES, _SET_FEATURES = 0x8946, 0x3A, 0x3B
_FEATURE_BLOCKS = 2


def mac(host: int) -> str:
    """Its hardware address, as in switch.c."""
    return f"02:00:00:00:00:{host:02x}"


class Bridge:
    """The bridge in the namespace `middle`, with a port for each host."""

    def __init__(self, hosts: int, namespace: Callable[[int], Path]) -> None:
        self._hosts = range(hosts)
        self._namespace = namespace
        with inside(namespace(hosts)):
            tool(
                "ip",
                lines=["link add br0 type bridge mcast_snooping 0 stp_state 0", "link set br0 addrgenmode none up"],
            )
            for host in self._hosts:
                cable = f"link add p{host} type veth peer name eth0 address {mac(host)} netns {namespace(host)}"
                tool("ip", lines=[cable, f"link set p{host} master br0 addrgenmode none up"])
                without_offloads(f"p{host}")
                tool("tc", "qdisc", "add", "dev", f"p{host}", "clsact")
        for host in self._hosts:
            with inside(namespace(host)):
                without_offloads("eth0")
                tool("tc", "qdisc", "add", "dev", "eth0", "clsact")

    def write(self, conditions: Conditions, host: int | None = None) -> None:
        """Lose so many of the frames from now on, on every link or on that worker's alone; raises LabError."""
        if not conditions.only_loss:
            raise LabError("The laboratory's kernel mode knows random loss alone: leave out all other conditions.")
        command = ["filter", "replace", "dev", "{}", "ingress", "prio", "1", "handle", "1", "bpf", "da", "bytecode"]
        words = [*command, _program(conditions.loss)]
        if host is not None:
            check_host(host, len(self._hosts))
        for each in self._hosts[1:] if host is None else (host,):
            with inside(self._namespace(each)):
                tool("tc", *(word.format("eth0") for word in words))
            with inside(self._namespace(len(self._hosts))):
                tool("tc", *(word.format(f"p{each}") for word in words))

    def counters(self, host: int) -> tuple[Counters, Counters]:
        """Of the frames to that host and from it."""
        with inside(self._namespace(host)):
            down = _counted("eth0")
        with inside(self._namespace(len(self._hosts))):
            return down, _counted(f"p{host}")


def _program(loss: float) -> str:
    """Classic BPF that drops a unicast frame with this probability, in tc's way to write it."""
    to_group, random, drop, go_on = 3, 0xFFFFF038, 2, 0xFFFFFFFF  # a jump; SKF_AD_OFF + SKF_AD_RANDOM; verdicts of tc
    threshold = min(round(loss * 2**32), 2**32 - 1)
    code = [
        (0x30, 0, 0, 0),  # the first byte: its lowest bit tells frames to a group
        (0x45, to_group, 0, 1),
        (0x20, 0, 0, random),
        (0x35, 1, 0, threshold),
        (0x06, 0, 0, drop),
        (0x06, 0, 0, go_on),
    ]
    return ",".join([str(len(code)), *(" ".join(map(str, line)) for line in code)])


def _counted(device: str) -> Counters:
    (link,) = json.loads(tool("ip", "-j", "-s", "link", "show", "dev", device))
    received = link["stats64"]["rx"]
    found = json.loads(tool("tc", "-j", "-s", "qdisc", "show", "dev", device))
    lost = sum(int(qdisc.get("drops", 0)) for qdisc in found if qdisc["kind"] == "clsact")
    return Counters(frames=received["packets"], bytes=received["bytes"], lost=lost)


def without_offloads(device: str) -> None:
    """Turn off every feature that can be turned off, so that what is lost is one packet, as on a real link."""
    request = struct.pack(f"=II{16 * _FEATURE_BLOCKS}x", _GET_FEATURES, _FEATURE_BLOCKS)
    found = struct.unpack(f"={2 + 4 * _FEATURE_BLOCKS}I", _ethtool(device, request))
    blocks = [word for i in range(_FEATURE_BLOCKS) for word in (found[2 + 4 * i], 0)]  # available ones: none requested
    _ethtool(device, struct.pack(f"={2 + len(blocks)}I", _SET_FEATURES, _FEATURE_BLOCKS, *blocks))


def _ethtool(device: str, request: bytes) -> bytes:
    data = create_string_buffer(request, len(request))
    pointer = addressof(c_char.from_buffer(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sP16x", device.encode(), pointer))
    return data.raw
