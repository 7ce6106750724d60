"""Finds instructions that a Raspberry Pi 4 (armv8.0) does not have in 64-bit ARM objects, archives and modules.

usage: python scripts/arm/baseline.py [--allow MEMBER] FILE...

Prints them function by function, and exits with 1 if there are any. What the dispatch keeps for better processors is
left out with --allow: an object file's name (in an archive: the member's), or a function name's beginning. An allowed
object must not define anything that the linker could take for other objects too (weak symbols): that is checked
instead. Needs aarch64-linux-gnu-objdump and -nm, and files that are not stripped.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

# After armv8.0: atomics (LSE, RCpc), rounding doubling (RDM), dot products, FHM, BF16, I8MM, complex numbers, pointer
# authentication beyond the hints, flags, SVE registers, memory copies.
_BEYOND = re.compile(
    r"(?:ld|st)(?:add|clr|eor|set|smax|smin|umax|umin)(?:a|l|al)?[bh]?|(?:swp|cas)p?(?:a|l|al)?[bh]?|ldapu?r\w*|stlur\w*"
    r"|sqrdml[as]h|[su]dot|usdot|sudot|[su]mmla|usmmla|fml[as]l2?|bf\w*(?:dot|mmla|mlal|cvt)\w*|fcmla|fcadd|fjcvtzs"
    r"|(?:ret|bra|blra|ldra|eret)[ab]+z?|(?:pac|aut)(?:i|d)z?[ab]|pacga|xpac[id]|rmif|setf(?:8|16)|cfinv"
    r"|frint(?:32|64)[xz]|cpy\w+|set[pme]\w*|sha512\w*|eor3|bcax|rax1|xar|sm[34]\w+"
)
_SVE = re.compile(r"\b[zp]\d+(?:\.[bhsd]|/[mz])")
# Arithmetic on 16-bit floats; conversions from and to wider ones (fcvt, fcvtl, fcvtn) are in armv8.0.
_FLOAT = re.compile(r"(?:f(?!cvt(?:l2?|n2?)?$|mov$)\w+|[su]cvtf)")
_HALVES = re.compile(r"\bv\d+\.[48]h|\bh\d+\b")
_INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\t([a-z0-9.]+)(?:\t(.*))?$")
_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_OBJECT = re.compile(r"^(\S+):\s+file format elf64-littleaarch64$")


def beyond(mnemonic: str, operands: str) -> bool:
    """Whether an armv8.0 processor lacks an instruction, as objdump writes it."""
    name = mnemonic.split(".")[0]
    operands = operands.split("//")[0]
    if _BEYOND.fullmatch(name) or _SVE.search(operands):
        return True
    if name == "fmov":  # between registers of 16 bits
        return bool(re.search(r"\bh\d+\b", operands))
    return bool(_FLOAT.fullmatch(name) and _HALVES.search(operands))


def instructions(path: str) -> Iterator[tuple[str, str, str, str]]:
    """(object, function, mnemonic, operands) of all code of a file."""
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", path]
    member = function = ""
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        if found := _INSTRUCTION.match(line):
            yield member, function, found[1], found[2] or ""
        elif found := _FUNCTION.match(line):
            function = found[1]
        elif found := _OBJECT.match(line):
            member = found[1].rpartition("/")[2]


def shared_symbols(path: str, member: str) -> list[str]:
    """What a member of an archive (or the object itself) defines for the linker to share with other objects."""
    command = ["aarch64-linux-gnu-nm", "-A", "--defined-only", path]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [s for s in lines if re.split(r"[:/]", s.split(" ")[0])[-2] == member and re.search(r" [WVu] ", s)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--allow", action="append", default=[], metavar="MEMBER")
    args = parser.parse_args()
    found: Counter[str] = Counter()
    seen = 0
    for path in args.files:
        for member, function, mnemonic, operands in instructions(path):
            seen += 1
            if member not in args.allow and not function.startswith(tuple(args.allow)) and beyond(mnemonic, operands):
                found[f"{path}: {member}: {function}: {mnemonic}"] += 1
        for member in args.allow:
            found.update(f"{path}: shared with lesser processors: {symbol}" for symbol in shared_symbols(path, member))
    for place, times in sorted(found.items()):
        print(f"{place} ({times})")
    print(f"{seen} instructions, {found.total()} beyond armv8.0")
    return 1 if found or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
