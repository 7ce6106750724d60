"""What one assignment costs, without and with placing by significance where half of the workers are late now and then:
32 groups, a hub and eight workers. usage: python benchmarks/assign.py"""

from __future__ import annotations

import random
from collections.abc import Callable

from halo import _native

GROUPS, WORKERS, TIMES = 32, 8, 5000
EVERYTHING = [2**64 - 1] * WORKERS
SCORES = [random.Random(3).gauss(0, 1) for _ in range(GROUPS)]
TWO_HOLDERS = [sum(1 << g for g in range(GROUPS) if g % WORKERS in (i, (i + 1) % WORKERS)) for i in range(WORKERS)]


def situation(noise: float, resident: list[int], away: int | None, cost: float) -> list[_native.Candidate]:
    """The same devices every time, but for noise in what is known of them."""
    devices = random.Random(2)

    def known(low: float, high: float) -> float:
        return devices.uniform(low, high) * random.uniform(1 - noise, 1 + noise)

    workers = [
        _native.Candidate(
            takes=i != away,
            start_us=known(300, 900),
            group_us=known(60, 300),
            cost_us=cost,
            resident=resident[i],
            lateness=0.1 * (i % 2),
        )
        for i in range(WORKERS)
    ]
    return [_native.Candidate(group_us=known(100, 100)), *workers]


def main() -> None:
    cases: dict[str, Callable[[int], list[_native.Candidate]]] = {
        "nothing changes": lambda k: situation(0, EVERYTHING, None, 30),
        "noise of 5%": lambda k: situation(0.05, EVERYTHING, None, 30),
        "noise of 50%": lambda k: situation(0.5, EVERYTHING, None, 30),
        "one away, another each time": lambda k: situation(0.05, EVERYTHING, k % WORKERS, 30),
        "the same, devices dear": lambda k: situation(0.05, EVERYTHING, k % WORKERS, 400),
        "two holders, noise of 5%": lambda k: situation(0.05, TWO_HOLDERS, None, 30),
        "two holders, noise of 50%": lambda k: situation(0.5, TWO_HOLDERS, None, 30),
        "two holders, one away": lambda k: situation(0.05, TWO_HOLDERS, k % WORKERS, 30),
    }
    print(f"{'':30}{'balanced':>12}{'even':>12}{'balanced, placed':>20}{'even, placed':>16}")
    for name, make in cases.items():
        situations = [make(k) for k in range(65)]
        took = [
            min(_native.time_assign(policy, GROUPS, situations, TIMES, scores) for _ in range(5))
            for scores in ([], SCORES)
            for policy in (_native.BalancedAssigner(), _native.EvenAssigner())
        ]
        print(f"{name:30}{took[0]:9.2f} us{took[1]:9.2f} us{took[2]:17.2f} us{took[3]:13.2f} us")


if __name__ == "__main__":
    main()
