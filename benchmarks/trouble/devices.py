"""What more devices bring, of one speed and of different ones."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from benchmarks.lab import Conditions
from benchmarks.trouble.generation import Sample, alternate, generate
from benchmarks.trouble.quota import period_us, quotas
from benchmarks.trouble.rows import Row, Run, Scenario
from benchmarks.trouble.stage import Scene, Stage

_CABLE = Conditions()  # no delay but the machine's: the kernel carries the frames
_PACE_GROUP_US = 500  # TinyLlama's shape has 792 groups: 0.4 s a token for one device
_BARS = {1: None, 2: 1.8, 4: 3.0}
_HUB_SHARES = (1.0, 0.9, 0.85, 0.8)
_SETTLE = 12  # tokens until speeds are known and the plan follows them


def _unequal(run: Run) -> Iterator[Row]:
    """The hub has 30% of a core, its one worker 10%; `even` counts the hub as one of two.

    Policies are compared without stand-ins, which would mend an uneven plan by computing the slow one's share.
    """
    for stand_ins in (False, True):
        scene = Scene(
            run.tinyllama(),
            workers=1,
            conditions=_CABLE,
            pace_us=0,
            hub_share=None,
            n_ctx=256,
            stand_ins=stand_ins,
        )
        with Stage(scene, run.say) as stage, quotas({os.getpid(): 0.3, stage.workers[1].pid: 0.1}):
            plans = [lambda: stage.set_plan("even"), lambda: stage.set_plan("auto")]
            fixed = [functools.partial(stage.set_plan, "even", share) for share in _HUB_SHARES if not stand_ins]
            even, auto, *given = alternate(stage, [*plans, *fixed], 2, 8)
        if given:
            yield _by_hand(given)
        ratio, slow = auto.mean / even.mean, auto.share("worker-1")
        yield Row(
            f"quotas of 30% (hub) and 10% of a core (periods {period_us(0.3) // 1000} and "
            f"{period_us(0.1) // 1000} ms), assigned against even, with{'' if stand_ins else 'out'} stand-ins",
            "beside" if stand_ins else "at most 0.58x, the slow one at least 15% of the group results",
            f"{ratio:.3f}x ({1e3 * auto.mean:.0f} against {1e3 * even.mean:.0f} ms a token), the slow one {slow:.1%}",
            None if stand_ins else ratio <= 0.58 and slow >= 0.15,
            {"ratio": ratio, "slow_share": slow, "even_ms": 1e3 * even.mean, "auto_ms": 1e3 * auto.mean},
        )


def _by_hand(given: list[Sample]) -> Row:
    """What the slow one's share costs: how near `auto` is to the best there is."""
    found = [f"{1 - share:.0%}: {1e3 * s.mean:.0f} ms" for share, s in zip(_HUB_SHARES, given, strict=True)]
    return Row(
        "the same, the slow one given a share by hand (`even` with a --hub-share)",
        "beside",
        ", ".join(found) + " a token",
        None,
        {f"{1 - share:.2f}": 1e3 * s.mean for share, s in zip(_HUB_SHARES, given, strict=True)},
    )


def _seconds_a_token(run: Run, devices: int, *, pace_group_us: int = 0, share: float | None = None) -> float:
    """The median, with a hub and so many workers less one."""
    scene = Scene(
        run.tinyllama(),
        workers=devices - 1,
        conditions=_CABLE,
        pace_us=0,
        pace_group_us=pace_group_us,
        hub_pace_group_us=pace_group_us,
        plan="auto" if devices > 1 else "even",
        hub_share=None,
        n_ctx=256,
    )
    with Stage(scene, run.say) as stage:
        generate(stage, _SETTLE)
        if share is None:
            return generate(stage, 10).median
        with quotas(dict.fromkeys([os.getpid(), *(w.pid for w in stage.workers.values())], share)):
            generate(stage, _SETTLE)  # speeds are measured anew
            return generate(stage, 10).median


def _paced(run: Run) -> Iterator[Row]:
    alone = 0.0
    for devices, bar in _BARS.items():
        took = _seconds_a_token(run, devices, pace_group_us=_PACE_GROUP_US)
        alone = alone or took
        yield Row(
            f"{devices} device{'s' if devices > 1 else ''} paced at {_PACE_GROUP_US / 1000:g} ms a group, plan auto",
            "1" if bar is None else f"speed-up of at least {bar}x",
            f"{alone / took:.2f}x ({1e3 * took:.0f} ms a token)",
            None if bar is None else alone / took >= bar,
            {"devices": devices, "speed_up": alone / took, "token_ms": 1e3 * took},
        )


def _with_quotas(run: Run) -> Iterator[Row]:
    alone = 0.0
    for devices in _BARS:
        took = _seconds_a_token(run, devices, share=0.4)
        alone = alone or took
        yield Row(
            f"{devices} device{'s' if devices > 1 else ''} with 40% of a core each, plan auto",
            "beside",
            f"{alone / took:.2f}x ({1e3 * took:.0f} ms a token)",
            None,
            {"devices": devices, "speed_up": alone / took, "token_ms": 1e3 * took},
        )


def scenarios() -> dict[str, Scenario]:
    return {"quotas": _unequal, "devices paced": _paced, "devices with quotas": _with_quotas}
