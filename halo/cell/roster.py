"""Who is in the cell, as the retained profiles tell it; pure bookkeeping, no network."""

from __future__ import annotations

from halo.cell.messages import BadDocument, OtherProtocol, Profile, decode

Owner = tuple[str, str]
"""Whose caches and link: an incarnation and its datagram key (empty: it has none), which is new at each opening."""


def owner_of(profile: Profile) -> Owner:
    """What must be the same for a worker that comes back to go on where it was."""
    return profile.incarnation, "" if profile.datagrams is None else profile.datagrams.key


def serves(profile: Profile, session: str) -> bool:
    """Whether the worker says that it is ready for this session."""
    return profile.state == "ready" and profile.session == session


class Roster:
    """The newest valid profile of each device."""

    def __init__(self) -> None:
        self.profiles: dict[str, Profile] = {}
        self.ignored = 0
        """Documents that were not valid profiles."""
        self.strangers: dict[str, str] = {}
        """Devices that speak another version of the protocol, and what was said about it."""
        self._doubted: set[str] = set()
        self._expelled: set[str] = set()
        """Incarnations: whoever is started anew may come again."""

    def hear(self, name: str, payload: bytes) -> bool:
        """Take in the payload of `name`'s profile topic; an empty one means that the device is gone.

        Returns whether it was valid. What is not valid changes nothing.
        """
        if not payload:
            self.profiles.pop(name, None)
            self.strangers.pop(name, None)
            return True
        try:
            profile = decode(Profile, payload)
        except OtherProtocol as error:
            self.ignored += 1
            self.strangers[name] = str(error)
            return False
        except BadDocument:
            self.ignored += 1
            return False
        if profile.name != name:
            self.ignored += 1
            return False
        self.profiles[name] = profile
        self.strangers.pop(name, None)
        self._doubted.discard(name)
        return True

    def doubt(self) -> None:
        """We were cut off from the broker: whoever is still there will be heard of again."""
        self._doubted |= set(self.profiles)

    def is_doubted(self, name: str) -> bool:
        """Whether it may yet find the broker again, as we have; what is cleared meanwhile, late wills clear."""
        return name in self._doubted

    def settle_doubts(self) -> None:
        """Forget the devices of which nothing has been heard since `doubt`."""
        for name in self._doubted:
            self.profiles.pop(name, None)
        self._doubted.clear()

    def expel(self, incarnation: str) -> None:
        """Never count on this process again."""
        self._expelled.add(incarnation)

    def _counts(self, profile: Profile) -> bool:
        return profile.incarnation not in self._expelled and profile.name not in self._doubted

    def ready(self, session: str) -> list[str]:
        """The devices that serve this session, by name."""
        profiles = self.profiles.items()
        return sorted(name for name, profile in profiles if serves(profile, session) and self._counts(profile))

    def serving(self, session: str) -> list[str]:
        """The devices that serve this session, or will once they have loaded what they shall hold; by name."""
        return sorted(
            name
            for name, profile in self.profiles.items()
            if profile.state in ("loading", "ready") and profile.session == session and self._counts(profile)
        )

    def undecided(self, session: str) -> list[str]:
        """The devices that have yet to say whether they serve this session."""
        return sorted(
            name
            for name, profile in self.profiles.items()
            if self._counts(profile) and profile.state != "refused" and not serves(profile, session)
        )

    def refusal(self, name: str) -> str:
        """Why this device will not serve; empty: it has not said so."""
        if name in self.strangers:
            return self.strangers[name]
        profile = self.profiles.get(name)
        return profile.reason if profile is not None and profile.state == "refused" else ""

    def refusals(self) -> dict[str, str]:
        """Why each device that will not serve does not, by name."""
        names = sorted({*self.profiles, *self.strangers})
        return {name: why for name in names if (why := self.refusal(name))}
