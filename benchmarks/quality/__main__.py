"""Measures what docs/quality.md shows, and draws it: `python -m benchmarks.quality --help`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.quality import curves, planned, times
from halo.files import whole

_EXAMPLES = """\
  python -m benchmarks.quality perplexity --models halo5M-f32.gguf stories260K-f32.gguf --text stories.txt
  sudo python -m benchmarks.quality times
  sudo python -m benchmarks.quality planned
  python -m benchmarks.quality draw

Each but the last puts what it has measured into --data, beside what was there; draw needs matplotlib.
"""
_DATA = Path("docs/images/quality.json")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description="Measures what lateness costs in quality and saves in time, and draws it.",
        epilog=f"examples:\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["perplexity", "times", "planned", "draw"])
    parser.add_argument("--data", type=Path, default=_DATA, metavar="FILE", help=f"(default: {_DATA})")
    parser.add_argument("--models", type=Path, nargs="+", metavar="FILE", help="of perplexity: trained f32 models")
    parser.add_argument("--text", type=Path, metavar="FILE", help="of perplexity")
    parser.add_argument("--groups", type=int, default=16, metavar="G", help="of perplexity: the grid (16)")
    args = parser.parse_args()
    data: dict[str, Any] = json.loads(args.data.read_text()) if args.data.exists() else {}
    if args.what == "draw":
        from benchmarks.quality.draw import draw  # here: it needs matplotlib

        print("\n".join(str(path) for path in draw(data, args.data.parent)))
        return 0
    if args.what == "perplexity":
        if not args.models or args.text is None:
            parser.error("perplexity needs --models and --text")
        data["perplexity"] = curves.measure(args.models, args.text, args.groups, _say)
    else:
        data[args.what] = (times if args.what == "times" else planned).measure(_say)
    args.data.parent.mkdir(parents=True, exist_ok=True)
    with whole(args.data) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
