"""The table of figures: one row each, with the bar that it is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """`ok` None: reported beside, without a bar."""

    what: str
    bar: str
    found: str
    ok: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        verdict = {True: "yes", False: "**no**", None: "-"}[self.ok]
        return f"| {self.what} | {self.bar} | {self.found} | {verdict} |"


HEAD = "| what | bar | found | held |\n| --- | --- | --- | --- |"


@dataclass(frozen=True)
class Run:
    """What the command line asks for. Models: the demo model (stories), and one of TinyLlama's shape."""

    stories: Path
    tinyllama: Callable[[], Path]
    say: Callable[[str], None]
    faults: int
    minutes: float
    trained: tuple[Path, ...] = ()  # models whose perplexity is worth measuring
    text: Path | None = None  # for them


Scenario = Callable[[Run], Iterator[Row]]


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms"
