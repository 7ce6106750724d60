"""What a network does to frames, and what it has done to them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


class LabError(RuntimeError):
    """The laboratory cannot do what it is asked; the text says why, and what to try."""


@dataclass(frozen=True)
class Conditions:
    """One way; of every link, or of one worker's, both directions alike.

    A frame crosses one link between any two hosts: between two workers that of whose loses more.

    delay_us: what every frame takes. loss: probability, per frame. burst: mean length of a run of lost frames, per link
    and direction (Gilbert-Elliott); 0 or 1: each frame for itself. fade_ms: if above 0, loss is the share of the time
    that a worker's link is dead, both directions at once, each worker for itself, for times of this mean (exponential);
    host 0 never fades. duplicate: probability that a frame arrives twice. reorder: probability that a frame is held
    back by up to a round trip and a millisecond (uniform). rate_kbit: if above 0, all hosts share one half-duplex
    medium of so many kbit/s; frame_us: what each frame costs there on top.
    """

    delay_us: float = 0.0
    loss: float = 0.0
    burst: float = 0.0
    fade_ms: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    rate_kbit: float = 0.0
    frame_us: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = 1.0 if field.name in ("loss", "duplicate", "reorder") else 1e9
            if not 0 <= value <= most:
                raise LabError(f"{field.name} is {value}; it must be from 0 to {most:g}.")
        if self.burst > 1 and self.fade_ms > 0:
            raise LabError("Bursts and fades are two models of loss: give one of them.")
        if (self.burst > 1 or self.fade_ms > 0) and not self.loss:
            raise LabError("Bursts and fades need a loss: how much of the frames, or of the time.")
        if self.burst > 1 and self.loss < 1 and self.loss / (1 - self.loss) > self.burst:
            raise LabError(f"A loss of {self.loss:.0%} cannot come in bursts of only {self.burst:g} frames.")

    @property
    def without_loss(self) -> Conditions:
        """The same network on a good day."""
        return replace(self, loss=0.0, burst=0.0, fade_ms=0.0)

    @property
    def only_loss(self) -> bool:
        """Whether independent loss is all that there is: the kernel can do that."""
        return self == Conditions(loss=self.loss)


@dataclass(frozen=True)
class Counters:
    """Frames that were sent into one direction of a link, with what became of them; bytes with Ethernet headers."""

    frames: int = 0
    bytes: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    dropped: int = 0
    """Not lost by chance, but because a queue was full."""

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))
