"""`halo worker` with the fake native module; takes the same arguments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fake_native import NATIVE, Model

from halo.cli import execute, parser
from halo.cli.worker import run

if __name__ == "__main__":
    args = parser().parse_args(["worker", *sys.argv[1:]])
    sys.exit(execute(lambda: run(args, native=NATIVE, open_model=Model)))
