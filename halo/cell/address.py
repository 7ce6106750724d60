"""Where the broker is: the URL that users write, parsed, with its password kept out of every text."""

from __future__ import annotations

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
            host, port = parts.hostname, parts.port
        except ValueError:  # its text may quote a password
            raise _wrong(text, _UNREADABLE if "@" in text else "its port is no number") from None
        if parts.scheme not in _PORTS:
            raise _wrong(text, f"the scheme {parts.scheme!r} is not mqtt or mqtts")
        if not host or any(c.isspace() or not c.isprintable() for c in host):
            raise _wrong(text, "it names no host")
        try:
            host.encode("idna")  # as whoever looks it up does
        except UnicodeError:
            raise _wrong(text, "between the dots of its host are 1 to 63 letters each") from None
        if port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _wrong(text, "something other than host and port follows the scheme")
        return cls(
            host=host,
            port=port or _PORTS[parts.scheme],
            tls=parts.scheme == "mqtts",
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
        )


_UNREADABLE = "of its parts host and port cannot be told (in a password, write / # ? @ : as %2F %23 %3F %40 %3A)"


def _wrong(text: str, why: str) -> BrokerError:
    shown = text.rpartition("@")[2]  # whatever stands before the @ may be a password
    before, colon, port = shown.rpartition(":")
    if colon and not port.isdigit() and not port.startswith("//"):  # as may what stands for a port, without an @host
        shown = f"{before}:..."
    return BrokerError(
        f"{shown!r} is not the address of an MQTT broker: {why}. "
        "Write mqtt://[user:password@]host[:1883], or mqtts://host[:8883] for TLS."
    )
