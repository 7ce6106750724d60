"""Compares HALO's kernels for ARM with llama.cpp's where there is no ARM machine: instructions that the emulator
executes, and cycles that a model of the processor (llvm-mca) takes for exactly those, all data in the first cache.

usage: python benchmarks/arm/measure.py WORK   (a folder outside the repository; on x86-64 Debian, see NEEDED)

Prints a table: for each type, of both, instructions per byte of weights in the file, and cycles per block of 32 values
(256 for the K types), each for one row of activations. llama.cpp's are the better of its plain and its repacked
kernels, from the source package of llama-cpp-python, compiled here for the same processors.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
NEEDED = "apt-get install gcc g++-aarch64-linux-gnu qemu-user llvm-19"
PACKAGE = "llama-cpp-python==0.3.36"
# As in CMakeLists.txt.
KERNEL_FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
# Values and bytes of a block, and whether llama.cpp has repacked kernels.
BLOCKS = {
    "Q4_0": (32, 18, True), "Q4_1": (32, 20, False), "Q5_0": (32, 22, False), "Q5_1": (32, 24, False),
    "IQ4_NL": (32, 18, True), "Q8_0": (32, 34, True),
    "Q3_K": (256, 110, False), "Q4_K": (256, 144, True), "Q6_K": (256, 210, True),
}  # fmt: skip
COLUMNS = 2048


class Core(NamedTuple):
    name: str
    variant: str
    emulated: str
    march: str
    model: str  # of llvm-mca; A76 has none of its own, N1 is the same core
    repacks: bool  # whether llama.cpp does, on this processor


CORES = [
    Core("Pi 4", "neon", "cortex-a72", "armv8-a", "cortex-a72", False),
    Core("Pi 5", "dotprod", "cortex-a76", "armv8.2-a+dotprod+fp16", "neoverse-n1", True),
]


class Figures(NamedTuple):
    instructions: float  # per byte of weights
    cycles: float  # per block and row of activations


def run(*command: str | Path, stdin: str | None = None) -> str:
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}\n(needs: {NEEDED})")
    return done.stdout


def llama_source(work: Path) -> Path:
    """The folder of ggml, unpacked from the source package."""
    ggml = work / "llama" / "vendor" / "llama.cpp" / "ggml"
    if not ggml.exists():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python"]
        run(*pip, "-d", work, PACKAGE)
        with tarfile.open(next(work.glob("llama_cpp_python-*.tar.gz"))) as package:
            for member in package.getmembers():
                _, _, path = member.name.partition("/")
                if path.startswith("vendor/llama.cpp/ggml/"):
                    member.name = path
                    package.extract(member, work / "llama", filter="data")
    return ggml


def build_halo(work: Path) -> None:
    objects = []
    for name in ("dispatch", "dequantize", "portable", "neon", "dotprod"):
        objects.append(work / f"{name}.o")
        own = {"neon": ["-fno-schedule-insns"], "dotprod": ["-fno-schedule-insns", "-march=armv8.2-a+dotprod"]}
        source = ROOT / "native" / "kernels" / f"{name}.cpp"
        compiler = ["aarch64-linux-gnu-g++", "-std=c++17", *KERNEL_FLAGS, *own.get(name, []), f"-I{ROOT / 'native'}"]
        run(*compiler, "-c", source, "-o", objects[-1])
    program = ["aarch64-linux-gnu-g++", "-std=c++17", "-O2", "-static", f"-I{ROOT / 'native'}", HERE / "halo.cpp"]
    run(*program, *objects, "-o", work / "halo")


def build_llama(work: Path, core: Core) -> None:
    """Only the files of the kernels: what else they could call stays undefined, and is not called."""
    src = llama_source(work) / "src"
    flags = ["-O3", "-DNDEBUG", f"-march={core.march}", "-ffunction-sections", "-fdata-sections", "-D_GNU_SOURCE"]
    flags += ["-DGGML_USE_CPU_REPACK", '-DGGML_VERSION="0"', '-DGGML_COMMIT="0"', "-w"]
    flags += [f"-I{src.parent / 'include'}", f"-I{src}", f"-I{src / 'ggml-cpu'}"]
    objects = []
    for name in ("quants.c", "repack.cpp", "arch/arm/quants.c", "arch/arm/repack.cpp"):
        objects.append(work / f"{core.variant}-{name.replace('/', '-')}.o")
        if not objects[-1].exists():
            compiler = ["aarch64-linux-gnu-gcc"] if name.endswith(".c") else ["aarch64-linux-gnu-g++", "-std=c++17"]
            run(*compiler, *flags, "-c", src / "ggml-cpu" / name, "-o", objects[-1])
    program = ["aarch64-linux-gnu-g++", "-std=c++17", "-O2", "-static", HERE / "llama.cpp", *objects]
    link = ["-Wl,--gc-sections", "-Wl,--unresolved-symbols=ignore-all", "-o", work / f"llama-{core.variant}"]
    run(*program, *link)


def measure(work: Path, core: Core, program: list[str], kind: str, rows: int, t: int) -> Figures:
    """One product of `rows` rows of weights with `t` rows of activations."""
    values, size, _ = BLOCKS[kind]
    count, trace = work / "count", work / "trace"
    plugin = f"{work / 'libtrace.so'},count={count},trace={trace}"
    emulator = ["qemu-aarch64", "-cpu", core.emulated, "-plugin", plugin]
    run(*emulator, work / program[0], *program[1:], kind, str(rows), str(COLUMNS), str(t))
    blocks = rows * COLUMNS // values
    code = run("llvm-mc-19", "-disassemble", "-triple=aarch64", "-mattr=+all", trace)
    timing = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={core.model}", "-mattr=+dotprod,+fullfp16", "-iterations=1"]
    cycles = re.search(r"Total Cycles:\s+(\d+)", run(*timing, "-", stdin=code))
    assert cycles is not None
    return Figures(int(count.read_text()) / (blocks * size), int(cycles[1]) / (blocks * t))


def compare(work: Path, core: Core, kind: str, t: int) -> tuple[Figures, Figures, str]:
    """HALO's figures, llama.cpp's, and which of its kernels it was."""
    rows = 8
    ours = measure(work, core, ["halo", core.variant], kind, rows, t)
    theirs = {
        form: measure(work, core, [f"llama-{core.variant}", form], kind, rows, t)
        for form in (["plain", "repacked"] if core.repacks and BLOCKS[kind][2] else ["plain"])
    }
    instructions = min(f.instructions for f in theirs.values())
    best = min(theirs, key=lambda form: theirs[form].cycles)
    return ours, Figures(instructions, theirs[best].cycles), best


def main() -> None:
    work = Path(sys.argv[1]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    run("gcc", "-O2", "-shared", "-fPIC", HERE / "trace.c", "-o", work / "libtrace.so")
    build_halo(work)
    compiler = run("aarch64-linux-gnu-g++", "--version").splitlines()[0]
    print(f"{datetime.date.today()}, {compiler}, {run('qemu-aarch64', '--version').splitlines()[0]}, {PACKAGE}\n")
    print(
        "| | type | rows | instructions per byte: HALO | llama.cpp | cycles per block: HALO | llama.cpp | its kernel |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for core in CORES:
        build_llama(work, core)
        for t in (1, 32):
            for kind in BLOCKS:
                ours, theirs, form = compare(work, core, kind, t)
                cells = [f"{core.name} (`{core.variant}`)", kind, str(t)]
                cells += [f"{ours.instructions / t:.3f}", f"{theirs.instructions / t:.3f}"]
                cells += [f"{ours.cycles:.2f}", f"{theirs.cycles:.2f}", form]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
