"""The range of every number that a user may give, and the words to choose from, for Python and for the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType
from typing import Any

from halo.words import shown


@dataclass(frozen=True)
class Limit:
    """A number from `low` to `high`, both included; `whole` ones are integers, and of `optional` ones None is, too."""

    low: float
    high: float
    whole: bool = True
    optional: bool = False
    note: str = ""
    """What a special value means."""

    def holds(self, value: float) -> bool:
        """Whether `value` is in the range; not-a-number never is."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{'a whole number' if self.whole else 'a number'} from {self.low} to {self.high}{note}"


LIMITS = {
    "max_tokens": Limit(-1, 2**31 - 1, note="-1: until the context window is full"),
    "workers": Limit(0, 64, optional=True),  # a layer has no more groups than that
    "mlp_groups": Limit(1, 32),
    "calibration_tokens": Limit(512, 10_000_000),
    "predictions": Limit(64, 10_000_000),
    "seeds": Limit(1, 1000),
    "n_ctx": Limit(0, 1 << 20, note="0: the model's own"),
    "n_batch": Limit(1, 1 << 20),
    "n_threads": Limit(1, 256, optional=True),
    "threads": Limit(1, 256, optional=True),  # the same, as `halo.generate` names it
    "worker_threads": Limit(1, 256),
    "worker_pace_us": Limit(0, 500_000),  # of a request: it still looks alive
    "worker_pace_group_us": Limit(0, 20_000),  # of each group of a request; of 64 groups, the most: 1.3 s
    "udp_port": Limit(0, 65535),  # 0: any that is free
    "hub_share": Limit(0, 1, whole=False, optional=True),
    "temperature": Limit(0, 1000, whole=False),
    "top_k": Limit(0, 2**31 - 1, note="0: all"),
    "top_p": Limit(0, 1, whole=False),
    "min_p": Limit(0, 1, whole=False),
    "repeat_penalty": Limit(0.01, 100, whole=False),
    "delay_ms": Limit(0, 10_000, whole=False),
    "percent": Limit(0, 100, whole=False),
    "frames": Limit(1, 1_000_000, whole=False),
    "sync_ms": Limit(0.001, 10_000, whole=False),
    "fade_ms": Limit(0, 60_000, whole=False),
    "rate_kbit": Limit(0, 100_000_000, whole=False),
    "frame_us": Limit(0, 1_000_000, whole=False),
    "seed": Limit(-1, 2**32 - 2, optional=True),  # llama.cpp takes the highest 32-bit number for "random"
}

_MODEL = ((str, os.PathLike, NoneType), "a path (str or pathlib.Path), or None: the demo model")
KINDS: dict[str, tuple[Any, str]] = {
    "model": _MODEL,
    "model_path": _MODEL,
    "sidecar": ((str, os.PathLike, NoneType), "a path (str or pathlib.Path), or None: the one beside the model"),
    "broker": ((str, NoneType), "a str such as 'mqtt://pi1', or None: no broker"),
    "cell": (str, "a str"),
    "log": ((Callable, NoneType), "a function that takes a line, or None: lines go to stderr"),
}
"""What is neither a number nor one of some words: its types, for `isinstance` and for people."""
PARTIALS = ("fixed", "f32", "f16")
"""How partial sums may travel."""
TRANSPORTS = ("auto", "udp", "mqtt")
"""What may carry requests and partials: datagrams where they arrive; nothing but datagrams; MQTT."""
RESIDENCIES = ("full", "shards")
"""What workers hold in memory: the whole model; each its part of every layer."""
REORDERED_TYPES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
"""What a re-ordered model may be quantised to, by llama.cpp."""
PLANS = ("auto", "even")
"""How groups may be given to devices: so that all finish together, or equally."""


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise a ValueError for a word that is not among those known."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of: {', '.join(known)}.")


def check(**values: float | None) -> None:
    """Raise a ValueError for a value out of its range, a TypeError for no number; of some, None is in the range."""
    for name, value in values.items():
        limit = LIMITS[name]
        if value is None and limit.optional:
            continue
        if not isinstance(value, Integral if limit.whole else Real):
            raise TypeError(f"{name} is {shown(value)}; it must be {limit}{', or None' if limit.optional else ''}.")
        if not limit.holds(value):
            raise ValueError(f"{name} is {value}; it must be {limit}.")


def check_kinds(**values: object) -> None:
    """Raise a TypeError for what is of another type than `KINDS` says; the value, maybe a password, is not told."""
    for name, value in values.items():
        kinds, said = KINDS[name]
        if not isinstance(value, kinds):
            raise TypeError(f"{name} is of the type {type(value).__name__}; it must be {said}.")


def check_stop(stop: object) -> None:
    """Raise a TypeError for what are no stop strings."""
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, Collection) or not all(isinstance(each, str) for each in stop):
        raise TypeError(f"stop is {shown(stop)}; it must be a str, a list of them, or None.")


def check_prompt(prompt: str) -> None:
    """Raise a TypeError for what is no text, a ValueError for a text that has no UTF-8 form."""
    if not isinstance(prompt, str):
        raise TypeError(f"The prompt is of the type {type(prompt).__name__}; it must be a str. Decode bytes first.")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The prompt is no text: character {error.start} is {prompt[error.start]!r}, half of one, as in text that "
            "was decoded with errors='surrogateescape'. Decode it as UTF-8."
        ) from None


def check_hub_share(plan: str, hub_share: float | None) -> None:
    """Raise a ValueError for a share that the plan would not heed."""
    if hub_share is not None and plan != "even":
        raise ValueError(f"hub_share is {hub_share}; the plan must be 'even' with it, and is {plan!r} (--plan even).")
