"""Where the broker is: the URL that users write, parsed, with its password kept out of every text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from halo.errors import BrokerError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Address:
    """A broker's host and port, and the login if it asks for one."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `mqtt://[user:password@]host[:port]`, `mqtts://...` or `host[:port]`; raises BrokerError."""
        if any("\ud800" <= c <= "\udfff" for c in text):  # bytes of a command line that are no characters
            raise _wrong(text, "it is not UTF-8 text")
        url = text.strip() if "://" in text else f"mqtt://{text.strip()}"
        try:
            parts = urlsplit(url)
        except ValueError:  # its text may quote a password
            raise _wrong(text, _UNREADABLE if "@" in text else _BRACKETS) from None
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _wrong(text, _why_no_port(text, parts.netloc)) from None
        if parts.scheme not in _PORTS:
            raise _wrong(text, f"the scheme {parts.scheme!r} is not mqtt or mqtts")
        if not host or any(c.isspace() or not c.isprintable() for c in host):
            raise _wrong(text, "it names no host")
        try:
            host.encode("idna")  # as whoever looks it up does
        except UnicodeError:
            raise _wrong(text, "between the dots of its host are 1 to 63 letters each") from None
        if port == 0:
            raise _wrong(text, _RANGE)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _wrong(text, "something other than host and port follows the scheme")
        return cls(
            host=_ZONE.sub("%", host) if ":" in host else host,
            port=port or _PORTS[parts.scheme],
            tls=parts.scheme == "mqtts",
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
        )


_ZONE = re.compile("%25(?=.)")
"""What stands before the name of an interface: a URL has its % as %25 (RFC 6874), and others write it plain."""
_HEX_AND_COLONS = re.compile("[0-9A-Fa-f:.]+(%.*)?")
_BRACKETS = "an IPv6 address stands in brackets, as in mqtt://[::1]:1883"
_RANGE = "its port is not between 1 and 65535"
_UNREADABLE = "of its parts host and port cannot be told (in a password, write / # ? @ : as %2F %23 %3F %40 %3A)"


def _why_no_port(text: str, netloc: str) -> str:
    """Why what stands for the port is none; without quoting it, for it may be a password."""
    if "@" in text and "@" not in netloc:
        return _UNREADABLE
    place = netloc.rpartition("@")[2]
    if place.count(":") > 1 and _HEX_AND_COLONS.fullmatch(place):
        return _BRACKETS
    port = place.rpartition("]")[2].partition(":")[2]
    return _RANGE if port.isascii() and port.isdigit() else "its port is no number"


def _wrong(text: str, why: str) -> BrokerError:
    shown = text.rpartition("@")[2]  # whatever stands before the @ may be a password
    before, colon, port = shown.rpartition(":")
    if colon and not port.isdigit() and not port.startswith("//"):  # as may what stands for a port, without an @host
        shown = f"{before}:..."
    return BrokerError(
        f"{shown!r} is not the address of an MQTT broker: {why}. "
        "Write mqtt://[user:password@]host[:1883], or mqtts://host[:8883] for TLS."
    )
