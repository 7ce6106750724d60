"""Who is in the cell, as the retained profiles tell it; pure bookkeeping, no network."""

from __future__ import annotations

from halo.cell.messages import BadDocument, OtherProtocol, Profile, decode

MOST_KNOWN = 512
"""Devices, and as many that speak another version: a broker may retain what thousands have left behind."""

Owner = tuple[str, str]
"""Whose caches and link: an incarnation and its datagram key (empty: it has none), which is new at each opening."""


def owner_of(profile: Profile) -> Owner:
    """What must be the same for a worker that comes back to go on where it was."""
    return profile.incarnation, "" if profile.datagrams is None else profile.datagrams.key


def serves(profile: Profile, session: str) -> bool:
    """Whether the worker says that it is ready for this session."""
    return profile.state == "ready" and profile.session == session


class Roster:
    """The newest valid profile of each device: of `MOST_KNOWN`, who serve the session or were heard of last."""

    def __init__(self, session: str = "") -> None:
        self.profiles: dict[str, Profile] = {}
        """By name, those heard of last at the end."""
        self.ignored = 0
        """Documents that were not valid profiles."""
        self.left_out = 0
        """Profiles, and what other versions said, for which there was no room."""
        self.strangers: dict[str, str] = {}
        """Devices that speak another version of the protocol, and what was said about it."""
        self.session = session
        """Whose devices are kept before all others; empty: there is none."""
        self._spoken: set[str] = set()
        self._doubted: set[str] = set()
        self._expelled: set[str] = set()
        """Incarnations: whoever is started anew may come again."""

    def hear(self, name: str, payload: bytes, retained: bool = False) -> bool:
        """Take in the payload of `name`'s profile topic; an empty one means that the device is gone.

        What is `retained` is no sign of life, and of a doubted device it may be older than what we know: then it says
        nothing. Returns whether it was valid and there was room for it. If not it changes nothing.
        """
        if not payload:
            self._forget(name)
            self.strangers.pop(name, None)
            return True
        try:
            profile = decode(Profile, payload)
        except OtherProtocol as error:
            self.ignored += 1
            self._hear_stranger(name, str(error), retained)
            return False
        except BadDocument:
            self.ignored += 1
            return False
        if profile.name != name:
            self.ignored += 1
            return False
        if retained and name in self._doubted and name in self.profiles:
            return True
        if not self._make_room(name, profile):
            self.left_out += 1
            return False
        self.profiles.pop(name, None)
        self.profiles[name] = profile
        self.strangers.pop(name, None)
        self._doubted.discard(name)
        if not retained:
            self._spoken.add(name)
        return True

    def _hear_stranger(self, name: str, why: str, retained: bool) -> None:
        if name not in self.strangers and len(self.strangers) >= MOST_KNOWN:
            self.left_out += 1
            return
        self.strangers[name] = why
        if not retained:
            self._spoken.add(name)

    def _make_room(self, name: str, profile: Profile) -> bool:
        """For a device that is not known yet that one goes that has said nothing for longest, unless it serves."""
        if name in self.profiles or len(self.profiles) < MOST_KNOWN:
            return True
        idle = next((known for known, its in self.profiles.items() if not self._will_serve(its)), None)
        if idle is None:
            return False
        self._forget(idle)
        self.left_out += 1
        return True

    def _forget(self, name: str) -> None:
        self.profiles.pop(name, None)
        self._spoken.discard(name)

    def doubt(self) -> None:
        """We were cut off from the broker: whoever is still there will be heard of again, at the latest as an answer to
        our lease."""
        self._doubted |= set(self.profiles)

    def is_doubted(self, name: str) -> bool:
        """Whether it may yet find the broker again, as we have; what is cleared meanwhile, late wills clear."""
        return name in self._doubted

    def settle_doubts(self) -> None:
        """Forget the devices of which nothing has been heard since `doubt`."""
        for name in self._doubted:
            self._forget(name)
        self._doubted.clear()

    def expel(self, incarnation: str) -> None:
        """Never count on this process again."""
        self._expelled.add(incarnation)

    def _counts(self, profile: Profile) -> bool:
        return profile.incarnation not in self._expelled and profile.name not in self._doubted

    def _will_serve(self, profile: Profile) -> bool:
        return profile.state in ("loading", "ready") and profile.session == self.session != ""

    def ready(self) -> list[str]:
        """The devices that serve the session, by name."""
        profiles = self.profiles.items()
        return sorted(name for name, profile in profiles if serves(profile, self.session) and self._counts(profile))

    def serving(self) -> list[str]:
        """The devices that serve the session, or will once they have loaded what they shall hold; by name."""
        profiles = self.profiles.items()
        return sorted(name for name, profile in profiles if self._will_serve(profile) and self._counts(profile))

    def undecided(self, *, heard_only: bool) -> list[str]:
        """The devices that have yet to say whether they serve the session; of those that have said anything since we
        are here (`heard_only`), or of all of which there is a profile, which may be years old."""
        return sorted(
            name
            for name, profile in self.profiles.items()
            if self._counts(profile)
            and profile.state != "refused"
            and not serves(profile, self.session)
            and (name in self._spoken or not heard_only)
        )

    def refusal(self, name: str) -> str:
        """Why this device will not serve; empty: it has not said so."""
        if name in self.strangers:
            return self.strangers[name]
        profile = self.profiles.get(name)
        return profile.reason if profile is not None and profile.state == "refused" else ""

    def refusals(self, *, heard_only: bool = False) -> dict[str, str]:
        """Why each device that will not serve does not, by name; `heard_only` as for `undecided`."""
        names = sorted({*self.profiles, *self.strangers})
        return {n: why for n in names if (why := self.refusal(n)) and (n in self._spoken or not heard_only)}
