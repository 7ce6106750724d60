"""The MQTT topics of a cell, and which names may stand in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from halo.errors import CellError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def is_name(text: str) -> bool:
    """Whether `text` may name a cell or a device; such a text is safe in topics, logs and file names."""
    return _NAME.fullmatch(text) is not None


def check_name(what: str, text: str) -> str:
    """Return `text`, or raise a CellError that says what a name may look like."""
    if is_name(text):
        return text
    raise CellError(
        f"{text!r} cannot be the name of a {what}: it becomes part of MQTT topics. "
        "Use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or a digit."
    )


@dataclass(frozen=True)
class Topics:
    """Every topic that the devices of one cell use; all of them begin with `halo/<cell>/`."""

    cell: str

    def __post_init__(self) -> None:
        check_name("cell", self.cell)

    @property
    def lease(self) -> str:
        """Retained: who is the hub."""
        return f"halo/{self.cell}/hub"

    @property
    def beat(self) -> str:
        """Not retained: the hub is alive."""
        return f"halo/{self.cell}/hub/beat"

    @property
    def links(self) -> str:
        """Not retained: how the hub reaches its workers."""
        return f"halo/{self.cell}/hub/links"

    @property
    def plan(self) -> str:
        """Retained: what each worker shall hold in memory, where that is not everything."""
        return f"halo/{self.cell}/plan"

    @property
    def all_profiles(self) -> str:
        """A subscription to the profile of every device."""
        return f"halo/{self.cell}/device/+/profile"

    def profile(self, device: str) -> str:
        """Retained: what one device is and which session it serves."""
        return f"halo/{self.cell}/device/{device}/profile"

    def request(self, device: str, lane: int, copies: int) -> str:
        """Data: requests to one device over one of its lanes, to be answered over `copies` lanes."""
        return f"halo/{self.cell}/device/{device}/request/{lane}/{copies}"

    def all_requests(self, device: str, lane: int) -> str:
        """A subscription to the requests to one device over one of its lanes."""
        return f"halo/{self.cell}/device/{device}/request/{lane}/+"

    def copies(self, topic: str) -> int:
        """Over how many lanes a request on this topic shall be answered: at least one."""
        last = topic.rpartition("/")[2]
        return max(int(last), 1) if len(last) == 1 and last in "0123456789" else 1

    def partial(self, session: str, device: str, lane: int) -> str:
        """Data: the partials of one device in one session, over one of its lanes."""
        return f"halo/{self.cell}/session/{session}/partial/{device}/{lane}"

    def all_partials(self, session: str, lane: int) -> str:
        """A subscription to the partials of every device in one session, over one lane."""
        return f"halo/{self.cell}/session/{session}/partial/+/{lane}"

    def doctor(self, run: str) -> str:
        """What one run of `halo doctor` sends to itself."""
        return f"halo/{self.cell}/doctor/{run}"

    def profile_owner(self, topic: str) -> str | None:
        """The device whose profile this is; None for any other topic or a name that is not allowed."""
        return _between(topic, f"halo/{self.cell}/device/", "/profile")

    def partial_sender(self, topic: str, session: str) -> str | None:
        """The device that sent this partial; None for another session or topic, or a name not allowed."""
        return _between(topic.rpartition("/")[0], f"halo/{self.cell}/session/{session}/partial/", "")


def _between(topic: str, before: str, after: str) -> str | None:
    if not (topic.startswith(before) and topic.endswith(after)):
        return None
    name = topic[len(before) : len(topic) - len(after)]
    return name if is_name(name) else None
