"""A hub in a process of its own, for tests that kill it; prints a line when it is ready."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from cell_helpers import FAKE_WORKER
from fake_native import NATIVE, Model

from halo.cell import Cell

if __name__ == "__main__":
    model, how, broker = sys.argv[1:4]
    cell = Cell.open(
        Model(model),
        workers=2 if broker == "-" else None,
        broker=None if broker == "-" else broker,
        n_ctx=64,
        native=NATIVE,
        worker_command=FAKE_WORKER,
    )
    print("ready", flush=True)
    if how == "leave-it-to-exit":
        sys.exit(0)
    while True:
        cell.engine.truncate(0, 0)
        cell.engine.forward(0, np.zeros(4, np.int32))
        time.sleep(0.01)
