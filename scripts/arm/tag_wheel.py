"""Names a wheel after the oldest systems that it runs on, as auditwheel finds, and prints its new path.

usage: python scripts/arm/tag_wheel.py WHEEL

Fails for one that needs a library which is neither in it nor on every Debian, or a newer C library than Raspberry Pi OS
bookworm has. Needs auditwheel and wheel.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

NEWEST = (2, 36)  # glibc of Debian 12


def main() -> int:
    wheel = Path(sys.argv[1])
    show = [sys.executable, "-m", "auditwheel", "show", "--json", str(wheel)]
    shown = json.loads(subprocess.run(show, check=True, stdout=subprocess.PIPE, text=True).stdout)
    own = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    if foreign := sorted(set(shown["external_libs"]) - own):
        print(f"{wheel.name} needs {', '.join(foreign)}, which not every Debian has", file=sys.stderr)
        return 1
    tag = shown["sym_tag"]
    found = re.fullmatch(r"manylinux_(\d+)_(\d+)_aarch64", tag)
    if found is None or (int(found[1]), int(found[2])) > NEWEST:
        print(f"{wheel.name} is for {tag}, newer than Debian 12: build it on Debian 12", file=sys.stderr)
        return 1
    rename = [sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(wheel)]
    print(wheel.with_name(subprocess.run(rename, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
