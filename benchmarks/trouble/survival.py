"""One device after the other dies, freezes or is cut off in the middle of a token, and comes back."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trouble.generation import generate, until_used
from benchmarks.trouble.rows import Row, Run, Scenario, ms
from benchmarks.trouble.stage import Scene, Stage

_BACK_S = 5.0
_PATIENCE_S = 12.0


@dataclass(frozen=True)
class Fault:
    """What happens to a worker, and what undoes it."""

    name: str
    begin: Callable[[Stage, int], None]
    end: Callable[[Stage, int], None]


KILL = Fault("SIGKILL", Stage.kill, Stage.restart)
FREEZE = Fault("SIGSTOP", Stage.freeze, Stage.thaw)
CUT = Fault("link cut", Stage.cut, Stage.heal)
SLOW = Fault("3x slower", Stage.slow, Stage.speed_up)
BROKER = Fault("broker restarted", Stage.stop_broker, Stage.start_broker)


def _survives(run: Run, model: str, path: Path, tokens: int, residency: str | None = None) -> Iterator[Row]:
    """Each fault hits another one of three workers, and is undone after the run; then it has to come back."""
    most_s, kind = (0.15, model) if residency is None else (3.0, f"{model}, the only holder")
    with Stage(Scene(path, residency=residency), run.say) as stage:
        first = generate(stage, tokens)
        for worker, fault in enumerate((KILL, FREEZE, CUT), 1):
            usual = generate(stage, tokens)
            begin = functools.partial(fault.begin, stage, worker)
            hit = generate(stage, tokens, {tokens // 3: begin}, usual_s=usual.median)
            longer, same = hit.longest(usual.median), hit.same(first) and usual.same(first)
            yield Row(
                f"{fault.name} of 1 of 3 workers, {kind}",
                f"text identical; at most {ms(most_s)} longer",
                f"text {'identical' if same else 'DIFFERS'}; {ms(longer)} longer than the median of "
                f"{ms(usual.median)} (undisturbed at most {ms(usual.longest(usual.median))} longer)",
                same and longer <= most_s,
                {"longer_ms": 1e3 * longer, "median_ms": 1e3 * usual.median, "same": same},
            )
            fault.end(stage, worker)
            back = until_used(stage, worker, _PATIENCE_S)
            yield Row(
                f"worker returns after {fault.name}, {kind}",
                f"used again within {_BACK_S:.0f} s",
                f"not within {_PATIENCE_S:.0f} s" if back is None else f"{back:.1f} s",
                back is not None and back <= _BACK_S,
                {"back_s": back},
            )


def _all_die(run: Run) -> Iterator[Row]:
    tokens = 30
    with Stage(Scene(run.stories), run.say) as stage:
        usual = generate(stage, tokens)

        def kill_all() -> None:
            for worker in stage.workers.values():
                worker.kill()

        hit = generate(stage, tokens, {10: kill_all}, usual_s=usual.median)
        same = hit.same(usual)
        yield Row(
            "all 3 workers die at once",
            "hub finishes alone, text identical",
            f"text {'identical' if same else 'DIFFERS'}; longest token {ms(hit.longest(usual.median))} longer",
            same,
            {"longer_ms": 1e3 * hit.longest(usual.median), "same": same},
        )


def _broker(run: Run) -> Iterator[Row]:
    tokens, most_s = 60, 0.15
    with Stage(Scene(run.stories), run.say) as stage:
        usual = generate(stage, tokens)
        acts = {15: stage.stop_broker, 40: stage.start_broker}
        hit = generate(stage, tokens, acts, usual_s=usual.median)
        before = stage.work()
        after = generate(stage, tokens)
        same, longer = (
            hit.same(usual) and after.same(usual),
            max(hit.longest(usual.median), after.longest(usual.median)),
        )
        idle = [w.name for w in stage.workers.values() if stage.work()[w.name] == before.get(w.name)]
        yield Row(
            "broker killed and restarted",
            "not noticed",
            f"text {'identical' if same else 'DIFFERS'}; {len(idle)} workers left out; "
            f"longest token {ms(longer)} longer",
            same and not idle and longer <= most_s,
            {"longer_ms": 1e3 * longer, "same": same, "left_out": idle},
        )


def _cancel(run: Run) -> Iterator[Row]:
    tokens, dice = 40, random.Random(1)
    with Stage(Scene(run.stories), run.say) as stage:
        usual = generate(stage, tokens)
        at = dice.sample(range(tokens), 10)
        hit = generate(stage, tokens, dict.fromkeys(at, stage.engine.cancel), usual_s=usual.median, retries=len(at))
        same = hit.same(usual)
        yield Row(
            "hub cancelled in the middle of 10 tokens, and asked again",
            "right text",
            f"text {'identical' if same else 'DIFFERS'}; {hit.cancelled} were cancelled",
            same and hit.cancelled >= len(at) // 2,
            {"same": same, "cancelled": hit.cancelled},
        )


def scenarios() -> dict[str, Scenario]:
    """By name."""

    def survives(model: str, residency: str | None) -> Scenario:
        def play(run: Run) -> Iterator[Row]:
            path, tokens = (run.stories, 36) if model == "stories" else (run.tinyllama(), 9)
            return _survives(run, model, path, tokens, residency)

        return play

    return {
        "survive stories": survives("stories", None),
        "survive tinyllama": survives("tinyllama", None),
        "only-holder stories": survives("stories", "shards"),
        "only-holder tinyllama": survives("tinyllama", "shards"),
        "all-die": _all_die,
        "broker": _broker,
        "cancel": _cancel,
    }
