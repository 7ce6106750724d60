#!/usr/bin/env python3
"""Draws the README's picture from a real run: runs the command and saves what a terminal shows as SVG.

.venv/bin/python scripts/picture.py docs/images/demo.svg -- \
    halo generate --workers 3 -p "There was once a little rabbit" -n 320 --temp 0
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

WIDTH = 100
# rich's own, without the fonts that it would load from elsewhere
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    out, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit(__doc__)
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), (shlex.join(command), "bold")))
    for line in run.stdout.splitlines():
        console.print(Text(line, style="dim" if line.startswith("halo:") else ""))
    svg = console.export_svg(title="HALO", code_format=FORMAT)
    Path(out).write_text(svg, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
