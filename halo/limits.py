"""The range of every number that a user may give, and the words to choose from, for Python and for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real


@dataclass(frozen=True)
class Limit:
    """A number from `low` to `high`, both included; `whole` ones are integers."""

    low: float
    high: float
    whole: bool = True

    def holds(self, value: float) -> bool:
        """Whether `value` is in the range; not-a-number never is."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} from {self.low} to {self.high}"


LIMITS = {
    "max_tokens": Limit(-1, 2**31 - 1),
    "workers": Limit(0, 64),  # a layer has no more groups than that
    "mlp_groups": Limit(1, 32),
    "calibration_tokens": Limit(512, 10_000_000),
    "predictions": Limit(64, 10_000_000),
    "seeds": Limit(1, 1000),
    "n_ctx": Limit(0, 1 << 20),
    "n_batch": Limit(1, 1 << 20),
    "n_threads": Limit(1, 256),
    "worker_threads": Limit(1, 256),
    "worker_pace_us": Limit(0, 500_000),  # of a request: it still looks alive
    "worker_pace_group_us": Limit(0, 20_000),  # of each group of a request; of 64 groups, the most: 1.3 s
    "udp_port": Limit(0, 65535),  # 0: any that is free
    "hub_share": Limit(0, 1, whole=False),
    "temperature": Limit(0, 1000, whole=False),
    "top_k": Limit(0, 2**31 - 1),
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
    "seed": Limit(-1, 2**32 - 2),  # llama.cpp takes the highest 32-bit number for "random"
}


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
    """Raise a ValueError for a value out of its range, a TypeError for no number; None is in every range."""
    for name, value in values.items():
        limit = LIMITS[name]
        if value is None:
            continue
        if not isinstance(value, Integral if limit.whole else Real):
            raise TypeError(f"{name} is {value!r}; it must be {limit}.")
        if not limit.holds(value):
            raise ValueError(f"{name} is {value}; it must be {limit}.")


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
