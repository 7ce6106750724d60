"""A worker that is told to end does so in order, whatever it is at; and nothing that has gone is missed by it."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from cell_helpers import FAKE_WORKER, HANG_S, eventually, read_retained, retain
from fake_native import Model

from halo.cell.messages import Lease, ModelId, encode

PROFILE = "halo/halo/device/a/profile"
STAGES = [
    ("connecting", signal.SIGTERM),
    ("joined", signal.SIGTERM),
    ("joined", signal.SIGINT),
    ("joined", signal.SIGHUP),  # its terminal was closed
    ("loading", signal.SIGTERM),
    ("serving", signal.SIGTERM),
    ("serving", signal.SIGHUP),
]


def said(worker, text):
    eventually(lambda: text in worker.log.read_text() or worker.poll() is not None)
    assert text in worker.log.read_text()


@pytest.mark.parametrize("stage, number", STAGES)
def test_a_worker_ends_in_order_at_every_stage(start_worker, broker, loop, model, stage, number):
    if stage == "loading":
        model.write_text("a model load=6")
    if stage in ("loading", "serving"):
        identity = ModelId(Model(model).identity, "m", "m.gguf")
        lease = Lease(session="1" * 16, hub="h", model=identity, n_ctx=64, slots=1, partials="fixed", since=0.0)
        retain(loop, broker.address, "halo/halo/hub", encode(lease))
    worker = start_worker("a", "--wait", url="mqtt://127.0.0.1:9" if stage == "connecting" else None)
    words = {"connecting": "waiting for the broker", "joined": "is in the cell", "loading": "loading the model"}
    said(worker, words.get(stage, "serving session"))
    worker.send_signal(number)
    assert worker.wait(HANG_S) == 0
    assert worker.log.read_text().endswith("left the cell\n") and "Traceback" not in worker.log.read_text()
    assert PROFILE not in read_retained(loop, broker.address)


@pytest.mark.parametrize("closed", [[2], [0, 1, 2], []])
def test_a_worker_whose_words_nobody_hears_goes_on(broker, loop, model, closed):
    """Started without these streams; or, with none closed, who reads what it says has had enough."""
    command = [*FAKE_WORKER, "--broker", str(broker.address), "--name", "a", "-m", str(model)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, preexec_fn=lambda: [os.close(stream) for stream in closed]
    )
    process.stderr.close()
    try:
        eventually(lambda: PROFILE in read_retained(loop, broker.address))
        process.terminate()
        assert process.wait(HANG_S) == 0
        assert PROFILE not in read_retained(loop, broker.address)
    finally:
        process.kill()
        process.wait()


def test_what_nohup_has_started_does_not_end_with_its_terminal(start_worker, launch, broker, model, loop):
    worker = launch(["nohup", *FAKE_WORKER], "a", model=model)
    said(worker, "is in the cell")
    worker.send_signal(signal.SIGHUP)
    retain(loop, broker.address, PROFILE, b"")  # it puts that right, so it is alive
    eventually(lambda: PROFILE in read_retained(loop, broker.address))
    worker.terminate()
    assert worker.wait(HANG_S) == 0
