"""`Lab`: hosts with bad links between them, on one machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .build import find, switch, why_not
from .conditions import Conditions, Counters, LabError
from .kernel import Bridge, mac
from .namespace import inside, tool
from .shared import MOST_HOSTS, SIZE, Shared

_START_S = 10.0
_STOP_S = 2.0
_NETS = {4: "10.91.0.{}", 6: "fd91::{}"}
_PREFIXES = {4: 24, 6: 64}


class Lab:
    """Hosts 0 (the hub) to `hosts` - 1: network namespaces with an interface eth0 and an address of IPv4 and of IPv6.

    A context manager. Nothing in it has a name on the machine, so any number of them may run side by side; all of it
    ends with this process, however that ends (see switch.c), once the programs that were started on the hosts end.
    """

    def __init__(
        self,
        hosts: int,
        conditions: Conditions | None = None,
        *,
        congestion: str = "cubic",
        kernel: bool = False,
        seed: int | None = None,
    ) -> None:
        """`congestion`: the hosts' TCP congestion control. `kernel`: see kernel.py. `seed`: of the network's dice."""
        if reason := why_not():
            raise LabError(reason)
        if not 2 <= hosts <= MOST_HOSTS:
            raise LabError(f"{hosts} hosts cannot be had: a laboratory has 2 to {MOST_HOSTS}.")
        self.hosts = hosts
        self._bridge: Bridge | None = None
        memory = os.memfd_create("halo-lab")
        os.ftruncate(memory, SIZE)
        self._shared = Shared(memory)
        self._shared.seed(secrets.randbits(64) if seed is None else seed)
        try:
            self._process, self._errors = start(hosts, f"/proc/self/fd/{memory}", kernel=kernel, keep=[memory])
        finally:
            os.close(memory)
        try:
            await_switch(self._shared, self._process, self._errors)
            if kernel:
                self._bridge = Bridge(hosts, self.namespace)
            for host in range(hosts):
                furnish(host, hosts, self.namespace(host), congestion)
            self.set(conditions or Conditions())
        except BaseException:
            self.close()
            raise

    @property
    def kernel(self) -> bool:
        """Whether the kernel carries the frames, and not the switch."""
        return self._bridge is not None

    def namespace(self, host: int) -> Path:
        """The file that stands for a host's network."""
        return Path(f"/proc/{self._shared.pid}/fd/{self._shared.namespace(host)}")

    def inside(self, host: int) -> contextlib.AbstractContextManager[None]:
        """The calling thread is on that host meanwhile, and so is all that it starts there."""
        return inside(self.namespace(host))

    def command(self, host: int, *words: str) -> list[str]:
        """The command that runs another command on that host."""
        return on_host(self.namespace(host), *words)

    def set(self, conditions: Conditions, host: int | None = None) -> None:
        """Change the network, or that worker's link alone, both ways; it holds from the next frame on.

        Conditions for all (`host` None) replace those of single links. Raises LabError for a host that is no worker,
        and for a medium (rate_kbit, frame_us) of one link alone.
        """
        if self._bridge is not None:
            self._bridge.write(conditions, host)
        else:
            self._shared.write(conditions, host)

    def counters(self, host: int) -> tuple[Counters, Counters]:
        """Of the frames to that worker and from it. (Host 0 has no link of its own.)"""
        return self._shared.counters(host) if self._bridge is None else self._bridge.counters(host)

    def total(self) -> Counters:
        """Of all links."""
        each = [one for host in range(1, self.hosts) for one in self.counters(host)]
        return sum(each, Counters())

    def cpu_s(self) -> float:
        """Processor time that the switch has taken."""
        fields = Path(f"/proc/{self._shared.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Take the network away; any number of times."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def address(host: int, version: int = 4) -> str:
    """A host's IP address."""
    return _NETS[version].format(host + 1 if version == 4 else f"{host + 1:x}")


def on_host(namespace: Path, *words: str) -> list[str]:
    """The command that runs another one there."""
    return [find("nsenter") or "nsenter", f"--net={namespace}", "--", *words]


def start(
    hosts: int, memory: str, *, kernel: bool = False, keep: Sequence[int] = (), detached: bool = False
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start the switch, and say where its errors go. It ends with this process, unless it is detached."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
    process = subprocess.Popen(
        [str(switch()), str(hosts), memory, *(["hold"] if kernel else [])],
        stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=tuple(keep),
        start_new_session=True,  # Ctrl-C in the terminal does not reach it
    )
    return process, errors


def await_switch(shared: Shared, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Return when its namespaces stand."""
    deadline = time.monotonic() + _START_S
    while not shared.pid:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
            raise LabError(f"The laboratory's switch does not start: {said or 'it said nothing'}.")
        time.sleep(0.002)


def furnish(host: int, hosts: int, namespace: Path, congestion: str) -> None:
    """Addresses, and where the others are: nobody has to ask, so no question can be lost."""
    lines = ["link set lo up", "link set eth0 addrgenmode none", f"link set eth0 address {mac(host)} up"]
    for version, prefix in _PREFIXES.items():
        nodad = " nodad" if version == 6 else ""
        lines.append(f"addr add {address(host, version)}/{prefix} dev eth0{nodad}")
        lines += [
            f"neigh replace {address(other, version)} lladdr {mac(other)} dev eth0 nud permanent"
            for other in range(hosts)
            if other != host
        ]
    _allow(congestion)
    with inside(namespace):
        tool("ip", lines=lines)
        _sysctl("net/ipv4/tcp_congestion_control", congestion)
        _sysctl("net/ipv4/tcp_no_metrics_save", "1")  # what a lossy time has taught must not outlive it


def _allow(congestion: str) -> None:
    """Let namespaces use it: where it is not this machine's own, the kernel lets them have it only from a list."""
    listed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    with contextlib.suppress(OSError):  # setting it says what is wrong
        allowed = listed.read_text().split()
        if congestion not in allowed:
            listed.write_text(" ".join([*allowed, congestion]))


def _sysctl(name: str, value: str) -> None:
    try:
        Path("/proc/sys", name).write_text(value)
    except OSError as error:
        raise LabError(f"{name} cannot be set to {value!r}: {error.strerror}.") from None
