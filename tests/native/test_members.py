"""The state machine of a cell, driven at random: whatever workers and network do, the logits are the same bits, and
where syncs are relaxed nothing is lost or added twice."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from halo import _native
from halo.model import Model, open_model
from tests.conftest import TinyModel
from tests.native.in_process import Floats, LocalCell
from tests.tiny_gguf import Shape

WORKERS = st.integers(0, 2)
CONTEXT = 256
_KIND, _PART, _REQUEST, _PARTIAL = 5, 36, 1, 2


class Members(RuleBasedStateMachine):
    """Three workers. What is held back is delivered late, also after roll-backs."""

    model: Model

    @initialize(seed=st.integers(0, 2**32), plan=st.sampled_from(["random", "even", "auto"]))
    def begin(self, seed: int, plan: str) -> None:
        self.cell = LocalCell(self.model, 3, n_ctx=CONTEXT)
        self.cell._post = self._post  # type: ignore[method-assign]
        self.drawn = random.Random(seed)
        self.cell.engine.set_plan(plan, seed=seed)
        self.reference = _native.Engine(self.model.native, CONTEXT)
        self.state = ["here"] * 3
        self.network = ["good"] * 3
        self.lie: list[str] = [""] * 3
        self.held: list[tuple[int, bytes]] = []
        self.answers: list[bytes] = []
        self.soon: list[tuple[int, bytes]] = []
        self.cancel_in = -1
        self.going: tuple[int, int, str] = (-1, 0, "")  # after so many messages, who, and how
        self.prepare()

    def prepare(self) -> None:
        """What a machine needs beyond that."""

    def _post(self, messages: list[tuple[int, int, bytes]]) -> None:
        soon, self.soon = self.soon, []
        for index, answer in soon:
            self.cell.relay.deliver(index, answer)
        for index, _, message in messages:
            if index > 2:
                continue
            self._go_if_due()
            if self.cancel_in >= 0:
                self.cancel_in -= 1
                if self.cancel_in < 0:
                    self.cell.engine.cancel()
            if self.network[index] == "cut":
                continue
            if self.network[index] == "slow" and self.drawn.random() < 0.3:
                self.held.append((index, message))
                continue
            self._arrive(index, message)
            if self.network[index] == "double":
                self._arrive(index, message)

    def _arrive(self, index: int, message: bytes) -> None:
        answer = self.cell.answer(index, message)
        if not answer:
            return
        self.answers = [*self.answers[-50:], answer]
        answer = self._told(index, answer)
        if self.network[index] == "late" and self.drawn.random() < 0.2:
            self.soon.append((index, answer))
        else:
            self.cell.relay.deliver(index, answer)

    def _go_if_due(self) -> None:
        after, worker, how = self.going
        self.going = after - 1, worker, how
        if after == 0:
            getattr(self, how)(worker)

    def _told(self, index: int, answer: bytes) -> bytes:
        """What the worker says: its answer, or a lie that can be seen."""
        lie, self.lie[index] = self.lie[index], ""
        if lie == "shape":
            return answer + b"\0"
        if lie == "norm" and answer[_KIND] == _PARTIAL and answer[7] == 0 and any(answer[40:48]):
            (rows,) = np.frombuffer(answer[52:54], "<u2")
            at = 64 + 4 * int(rows)
            return answer[:at] + np.float32(np.nan).tobytes() + answer[at + 4 :]
        if lie == "mask":
            return answer[:40] + bytes([answer[40] ^ 1]) + answer[41:]
        return answer

    def _forward(self, tokens: list[int]) -> None:
        room = CONTEXT - self.reference.n_past(0)
        tokens = tokens[:room]
        if not tokens:
            return
        expected = self.reference.forward(0, tokens, True)
        try:
            logits = self.cell.engine.forward(0, tokens, True)
        except _native.Interrupted:
            self.cancel_in = -1
            logits = self.cell.engine.forward(0, tokens, True)
        self.check(logits, expected)

    def check(self, logits: Floats, expected: Floats) -> None:
        assert np.array_equal(logits, expected)

    @rule(tokens=st.lists(st.integers(3, 300), min_size=1, max_size=4))
    def generate(self, tokens: list[int]) -> None:
        for token in tokens:
            self._forward([token])

    @rule(tokens=st.lists(st.integers(3, 300), min_size=2, max_size=40))
    def read(self, tokens: list[int]) -> None:
        self._forward(tokens)

    @rule(share=st.floats(0, 1))
    def roll_back(self, share: float) -> None:
        keep = int(share * self.reference.n_past(0))
        self.cell.engine.truncate(0, keep)
        self.reference.truncate(0, keep)

    @rule(messages=st.integers(0, 20))
    def cancel_soon(self, messages: int) -> None:
        self.cancel_in = messages

    @rule(messages=st.integers(0, 20), worker=WORKERS, how=st.sampled_from(["leave", "come_back", "start_anew"]))
    def go_or_come_soon(self, messages: int, worker: int, how: str) -> None:
        """In the middle of a sync."""
        self.going = messages, worker, how

    @rule(worker=WORKERS, network=st.sampled_from(["good", "cut", "slow", "double", "late"]))
    def change_network(self, worker: int, network: str) -> None:
        self.network[worker] = network

    @rule()
    def release(self) -> None:
        held, self.held = self.held, []
        for index, message in held:
            self._arrive(index, message)

    @rule(worker=WORKERS, lie=st.sampled_from(["shape", "norm", "mask"]))
    def tell_a_lie(self, worker: int, lie: str) -> None:
        self.lie[worker] = lie

    @precondition(lambda self: self.answers)
    @rule(worker=WORKERS, which=st.integers(0, 50))
    def answer_for_another_or_twice(self, worker: int, which: int) -> None:
        self.cell.relay.deliver(worker, self.answers[which % len(self.answers)])

    @rule(worker=WORKERS)
    def forget_everything(self, worker: int) -> None:
        """As a worker whose memory is gone and that does not say so."""
        self.cell.workers[worker].open(self.cell.session, CONTEXT, 1)

    @rule(worker=WORKERS)
    def leave(self, worker: int) -> None:
        if self.state[worker] == "here":
            self.cell.relay.leave(worker, "it went away")
            self.state[worker] = "gone"

    @rule(worker=WORKERS)
    def come_back(self, worker: int) -> None:
        if self.state[worker] == "gone":
            self.cell.relay.rejoin(worker)
            self.state[worker] = "here"

    @rule(worker=WORKERS)
    def start_anew(self, worker: int) -> None:
        self.cell.workers[worker] = _native.Worker(self.model.native)
        self.cell.workers[worker].open(self.cell.session, CONTEXT, 1)
        self.cell.relay.forget(worker)
        assert self.cell.relay.join(None) == worker
        self.state[worker] = "here"
        self.held = [(index, message) for index, message in self.held if index != worker]

    @invariant()
    def what_is_owed_is_bounded(self) -> None:
        if hasattr(self, "cell"):
            assert all(member is None or member["owed"] <= 512 for member in self.cell.relay.members())


class RelaxedMembers(Members):
    """With relaxed syncs. From layer 2 on this model's attention adds nothing: what is late in one layer's MLP is made
    good before anything has seen that it was missing. So the logits are those of a cell in which nobody is late, if
    each group is in its own sum, or its mean is and its output less that mean in the next one."""

    layers = 5
    late = 0  # groups, of all runs

    def prepare(self) -> None:
        drawn, groups, d = np.random.default_rng(3), len(self.model.grid.mlp[0]) - 1, self.model.spec.d

        def normal(*shape: int) -> Floats:
            return drawn.standard_normal(shape).astype(np.float32)

        self.cell.engine.set_tolerance(
            [(normal(groups, d), normal(groups, d), normal(groups), np.ones(groups, np.float32))] * self.layers
        )
        self.cell.engine.set_quality(1.0)
        for token in range(12):  # they become known: from then on deadlines are short
            self._forward([3 + token])
        self.network = ["cut"] * 3
        self._forward([3])  # whoever misses this is not relied on for some hundred answers
        self.network = ["late"] * 3

    def check(self, logits: Floats, expected: Floats) -> None:
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)

    @rule(tokens=st.lists(st.integers(3, 300), min_size=8, max_size=16))
    def generate_more(self, tokens: list[int]) -> None:
        self.generate(tokens)

    @rule(share=st.sampled_from([0.0, 0.5, 1.0, 1.0]), planned=st.booleans())
    def set_quality(self, share: float, planned: bool) -> None:
        self.cell.engine.set_quality(share, planned)

    def teardown(self) -> None:
        if hasattr(self, "cell"):
            RelaxedMembers.late += self.cell.engine.stats()["tolerance"]["late_groups"]


def _drive(machine: type[Members], examples: int) -> None:
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase().runTest()


def test_whatever_happens_to_the_members_the_bits_are_the_same(tiny_model: TinyModel) -> None:
    Members.model = open_model(tiny_model("Q8_0"))
    _drive(Members, 100)


def without_attention(path: Path, layers: range, to: Path) -> Path:
    """The F32 model `path` with no attention in these layers, written to `to`."""
    file, content = open_model(path).file, bytearray(path.read_bytes())
    for layer in layers:
        tensor = file.tensors[f"blk.{layer}.attn_output.weight"]
        size = 4 * int(np.prod(tensor.shape))
        content[tensor.offset : tensor.offset + size] = bytes(size)
    to.write_bytes(content)
    return to


def test_whatever_happens_to_the_members_no_late_group_is_lost_or_added_twice(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    layers = RelaxedMembers.layers
    path = tiny_model("F32", Shape(n_layers=layers, ff=64))
    path = without_attention(path, range(2, layers), tmp_path / "model.gguf")
    RelaxedMembers.model = open_model(path, mlp_groups=4)
    _drive(RelaxedMembers, 60)
    assert RelaxedMembers.late > 0
