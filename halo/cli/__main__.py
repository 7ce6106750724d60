"""`python -m halo.cli` is `halo`."""

from __future__ import annotations

import sys

from halo.cli import main

if __name__ == "__main__":
    sys.exit(main())
