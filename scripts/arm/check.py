"""Runs HALO as it is installed in an arm64 root, as a hub and as a worker, and compares it with this machine.

usage: python scripts/arm/check.py ROOT [--cpu cortex-a72|cortex-a76] [--page 16384] [--json FILE]

Called by scripts/arm/check.sh, which makes the root. Each line is a check with its figure; exit code 1 if one fails:

- the kernels are those of that processor;
- as a hub with a worker of its own, it generates the text that this machine makes alone;
- as the worker of a hub here that computes nothing itself, its logits are those of an x86 worker: within f32
  rounding for a model in F32, and within one step of an activation for one in Q8_0, whose activations have 8 bits;
- what it takes: installed size, and the memory of an idle worker (the emulator's own left out).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from halo import _native
from halo.cell import Cell
from halo.cell.broker import find_mosquitto
from halo.model import open_model
from tests.tiny_gguf import Shape, write_tiny

PROMPT, TOKENS = "Once upon a time", 60
POSITIONS = 64
_PAGE = 4096
_WAIT_S = 300
"""Emulated, a worker takes half a minute to start."""
_ROUNDING = 2e-5
"""Of the largest logit, in F32: sums of some hundred values in another order."""
_STEP = 2e-3
"""In Q8_0: an activation between two of 255 steps, which rounding puts on the other one."""
_FACTOR = 1.5
_SHARE = 0.7
"""So much the emulated worker itself has to have computed."""
_HALF = 0.3
"""The same, where it has half of the work."""
_TRIES = 20
"""Where other programs have the processor, the emulator is so slow that the hub computes in the worker's place."""
_AREA, _AREA_BYTES = 0x2000_0000_0000, 1 << 34
"""Where the emulated program's memory lies, so that it can be told from the emulator's."""
MOST_IDLE_MB, MOST_INSTALLED_MB = 60, 120


@dataclass
class Root:
    """An arm64 root with HALO in /venv."""

    folder: Path
    cpu: str
    page: int
    lines: list[dict[str, Any]] = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        """What runs a command inside. The process is the emulator's, with the same number inside and out."""
        set_ = ["PATH=/venv/bin:/usr/bin:/usr/sbin", "HOME=/root", "LC_ALL=C.UTF-8", f"QEMU_CPU={self.cpu}"]
        set_ += [f"QEMU_GUEST_BASE={_AREA:#x}", f"QEMU_RESERVED_VA={_AREA_BYTES:#x}"]
        if self.page != _PAGE:
            set_.append(f"QEMU_PAGESIZE={self.page}")
        return ["/usr/bin/env", "-i", *set_, shutil.which("chroot") or "/usr/sbin/chroot", str(self.folder), *words]

    def worker(self, url: str, *words: str) -> list[str]:
        """What runs a worker of the cell of that broker."""
        return self.command("/worker/bin/halo", "worker", "--broker", url, "--wait", "-t", "1", *words)

    def run(self, *words: str, timeout: float = _WAIT_S) -> str:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def check(self, what: str, good: bool, **figures: Any) -> None:
        self.lines.append({"check": what, "good": good, **figures})
        shown = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{'ok' if good else 'FAILED'}: {what}{': ' + shown if shown else ''}", flush=True)


@contextlib.contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block; its log is shown where the block fails."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL) as running:
        try:
            yield running
        except BaseException:
            print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
            raise
        finally:
            running.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(30)
            running.kill()


@contextlib.contextmanager
def broker(log: Path) -> Iterator[str]:
    port = random.randrange(20000, 30000)
    program = find_mosquitto()
    assert program is not None, "mosquitto is not installed"
    with process([program, "-p", str(port)], log):
        yield f"mqtt://127.0.0.1:{port}"


def check_kernels(root: Root) -> None:
    wanted = "dotprod" if root.cpu == "cortex-a76" else "neon"
    code = "import os; from halo import _native as n; print(n.variants()[0], os.sysconf('SC_PAGE_SIZE'))"
    isa, page = root.run("/venv/bin/python", "-c", code).split()
    root.check(f"the kernels of a {root.cpu}", (isa, int(page)) == (wanted, root.page), isa=isa, page=page)


def check_hub(root: Root, log: Path) -> None:
    words = ["generate", "--temp", "0", "-n", str(TOKENS), "-p", PROMPT, "--json"]
    command = [sys.executable, "-m", "halo.cli", *words, "--broker", "local"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_WAIT_S)
    words = ["/venv/bin/halo", *words, "--workers", "1", "--plan", "even", "-t", "1"]
    for _ in range(_TRIES):
        if root.page == _PAGE:
            text, share = told(root.run(*words, "--broker", "local"))
        else:  # with other pages the emulator cannot run setpriv, with which a hub starts its broker
            with broker(log.with_suffix(".broker")) as url, process(root.worker(url), log):
                text, share = told(root.run(*words, "--broker", url))
        if share > _HALF:  # else other programs have had the processor, and the hub has computed in its place
            break
    root.check(
        "as a hub with a worker of its own, the demo model's text is the one of this machine",
        text == told(done.stdout)[0] and share > _HALF,
        tokens=TOKENS,
        worker_share=share,
    )


def told(report: str) -> tuple[str, float]:
    """The text, and the workers' share, that `halo generate --json` printed."""
    document = json.loads(report)
    return document["text"], round(sum(device["share"] for device in document["devices"][1:]), 2)


def logits(model: Path, url: str | None = None, variant: str = "") -> tuple[NDArray[np.float32], float]:
    """(POSITIONS, vocabulary) of a cell in which one worker is asked for everything, and the share that it computed.

    The rest the hub has computed because the worker was very late: the emulator is less steady than a Pi.
    """
    os.environ["HALO_ISA"] = variant  # of the workers that are started here; the hub's own is chosen once
    # A worker that alone holds its groups is waited for, however slow the emulator is.
    options = {"workers": 1, "n_ctx": 256, "plan": "even", "hub_share": 0.0, "residency": "shards"}
    options["partials"] = "f32" if "F32" in open_model(model).types else "fixed"
    try:
        with Cell.open(open_model(model), broker=url, log=lambda text: None, **options) as cell:  # type: ignore[arg-type]
            for again in range(_TRIES):  # how fast the worker is has been learned when the second one begins
                before = results(cell)
                cell.engine.truncate(0, 0)
                told = [cell.engine.forward(0, np.array([3 + i], np.int32), True)[0] for i in range(POSITIONS)]
                hub, worker = results(cell) - before
                share = float(worker / (hub + worker))
                if again and share > _SHARE:  # else other programs have had the processor: once more
                    break
            return np.array(told), share
    finally:
        del os.environ["HALO_ISA"]


def results(cell: Cell) -> NDArray[np.float64]:
    """How many results of groups the hub and its worker have given."""
    return np.array([device["group_results"] for device in cell.report()["devices"]], float)


def check_worker(root: Root, log: Path) -> None:
    shape = Shape(d=256, n_layers=4, ff=704)
    for kind in ("F32", "Q8_0"):
        file = write_tiny(root.folder / "files" / f"check-{kind}.gguf", kind, shape)
        words = ["-m", f"/files/{file.name}"]
        with broker(log.with_suffix(".broker")) as url, process(root.worker(url, *words), log):
            wait_for(log, "is in the cell")
            there, share = logits(file, url)
        here, _ = logits(file)
        size = float(np.abs(here).max())
        apart = float(np.abs(there - here).max()) / size
        others = [logits(file, variant=v)[0] for v in _native.variants()[1:]]
        own = max(float(np.abs(other - here).max()) for other in others) / size
        most = max(_FACTOR * own, _ROUNDING if kind == "F32" else _STEP)
        root.check(
            f"as the worker of a hub here, its logits in {kind} are near an x86 worker's",
            apart <= most and share > _SHARE,
            **{
                "worker_share": round(share, 2),
                "apart by": f"{apart:.1e} of the largest",
                "at most": f"{most:.1e}",
                "x86's variants": f"{own:.1e}",
            },
        )


def wait_for(log: Path, text: str) -> None:
    end = time.monotonic() + _WAIT_S
    while text not in log.read_text(errors="replace"):
        if time.monotonic() > end:
            raise SystemExit(f"{text!r} is not said")
        time.sleep(0.2)


def check_size(root: Root, log: Path) -> None:
    installed = sum(f.lstat().st_size for f in (root.folder / "worker").rglob("*") if f.is_file()) / 1e6
    with broker(log.with_suffix(".broker")) as url, process(root.worker(url), log) as running:
        wait_for(log, "is in the cell")
        time.sleep(3)
        idle = memory_of(running.pid) / 1e6
    root.check("installed with its dependencies", installed <= MOST_INSTALLED_MB, MB=round(installed))
    root.check("an idle worker's memory", idle <= MOST_IDLE_MB, MB=round(idle))


def memory_of(pid: int) -> int:
    """Resident bytes of the emulated program, shared libraries included."""
    resident = 0
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line):
            inside = _AREA <= int(found[1], 16) < _AREA + _AREA_BYTES
        elif inside and line.startswith("Rss:"):
            resident += int(line.split()[1]) << 10
    return resident


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--cpu", default="cortex-a72")
    parser.add_argument("--page", type=int, default=_PAGE, help="bytes of a memory page; a Pi 5's kernel has 16384")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    root = Root(args.root.resolve(), args.cpu, args.page)
    log = root.folder / "files" / "worker.log"
    check_kernels(root)
    check_hub(root, log)
    check_worker(root, log)
    check_size(root, log)
    if args.json is not None:
        args.json.write_text(json.dumps(root.lines, indent=1) + "\n")
    return 0 if all(line["good"] for line in root.lines) else 1


if __name__ == "__main__":
    sys.exit(main())
