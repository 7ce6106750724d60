"""What a user is told when a broker cannot be used: what happened, why, and what to try."""

from __future__ import annotations

import asyncio
import os
import re
import ssl

import aiomqtt

from halo.cell.address import Address
from halo.errors import BrokerError

_PASSWORD, _AUTHORISED = (4, 134), (5, 135)  # CONNACK codes of MQTT 3.1.1 and 5
_SWITCHED_OFF = {154: ("retained messages", "retain_available true"), 155: ("QoS 1", "max_qos 2")}
_CLOSED = (7, 16, 128, 141)  # paho's words for a connection that has ended or says nothing, in MQTT 3.1.1 and 5
_QUOTA = 151  # of MQTT 5: no more connections, or messages
_LIMIT = "is there a limit (mosquitto: 'max_connections'; or a firewall's)?"
_WANTS_CERTIFICATE = "alert certificate required"
_NO_CERTIFICATE = (
    "HALO has none to show: let the broker ask for user and password instead (mosquitto: 'require_certificate false' "
    "and a 'password_file'; docs/broker.md has all of it)."
)
_UNVERIFIED = re.compile(r"certificate verify failed: (.*?)(?: \(_ssl|$)")
# OpenSSL's words for why, and what to try.
_CERTIFICATES = (
    ("mismatch", "It is another host's: use in the URL the name that it was made for, or give the broker one for this"),
    ("not yet valid", "Is this device's clock right? 'timedatectl' tells, 'sudo timedatectl set-ntp true' sets it"),
    ("expired", "Make a new one on the broker's host (docs/broker.md); or, if it still holds, set this device's clock"),
    ("", "Let this device trust the authority that signed it: copy its ca.crt here, as docs/broker.md tells"),
)
_BROKEN_OFF = ("wrong version number", "record layer", "unexpected eof", "end of file", "reset by peer", "closed")


class BrokenOff(ConnectionError):
    """Something took the connection, with TLS where there is any, and has ended it or said nothing to our CONNECT."""


class Denied(BrokerError):
    """The broker let us in, and keeps topics from us: its access list does."""

    def __init__(self, address: Address, what: str) -> None:
        who = "clients without a login" if address.user is None else f"the user {address.user!r}"
        super().__init__(
            f"The broker at {address} lets us in, but {what}: its access list is in the way. It must allow {who} to "
            "read and to write halo/# (mosquitto: 'topic readwrite halo/#' below 'user NAME' in its acl_file; "
            "docs/broker.md has all of it)."
        )


def code_of(error: BaseException) -> int | None:
    """The CONNACK or reason code of an error, where it has one."""
    code = getattr(error, "rc", None)
    return code if isinstance(code, int) else getattr(code, "value", None)


def is_final(error: BaseException) -> bool:
    """Whether trying again is of no use."""
    return (
        isinstance(error, Denied)
        or code_of(error) in (*_PASSWORD, *_AUTHORISED, *_SWITCHED_OFF)
        or _UNVERIFIED.search(str(error)) is not None
        or _WANTS_CERTIFICATE in reason(error)
    )


def reason(error: BaseException) -> str:
    """Why, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, aiomqtt.MqttError) and isinstance(error.__cause__, Exception):
        return reason(error.__cause__)  # "disconnected during message iteration" because of this
    if isinstance(error, aiomqtt.MqttError) and str(error) == "Operation timed out":
        return "no answer"
    if isinstance(error, aiomqtt.MqttCodeError) and code_of(error) in _CLOSED:
        return "it does not answer, or has closed the connection"
    if isinstance(error, ssl.SSLError):
        return _plain(error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, ConnectionResetError) and not error.args:  # asyncio's, while TLS shakes hands
        return "the connection was closed"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _plain(str(error)) or type(error).__name__


def _plain(text: str) -> str:
    return re.sub(r"^\[[^]]*\] |\(_ssl.*\)$", "", text)


def explain(address: Address, error: BaseException, others: int = 0) -> str:
    """The whole paragraph; `others` is how many connections of this process to that broker stand."""
    if isinstance(error, BrokerError):
        return str(error)
    if (code := code_of(error)) in _PASSWORD + _AUTHORISED:
        return _login(address, "user or password is wrong" if code in _PASSWORD else "not authorised")
    if code in _SWITCHED_OFF:
        what, setting = _SWITCHED_OFF[code]
        return (
            f"The broker at {address} has {what} switched off, which HALO needs. Switch it on (mosquitto: {setting!r} "
            "in its configuration), or use another broker."
        )
    if (found := _UNVERIFIED.search(str(error))) is not None:
        why = found[1].rstrip(". ")
        advice = next(advice for words, advice in _CERTIFICATES if words in why)
        return f"The certificate of the broker at {address} is not accepted: {why}. {advice}."
    why = reason(error)
    if _WANTS_CERTIFICATE in why:
        return f"The broker at {address} asks for a client certificate. {_NO_CERTIFICATE}"
    if (others and isinstance(error, OSError)) or code == _QUOTA:
        stand = f", and {others} stand" if others else ""
        return (
            f"The broker at {address} does not let in all connections of this device: {why}{stand}. Each device needs "
            f"nine: {_LIMIT}"
        )
    if address.tls and (isinstance(error, BrokenOff) or _unanswered(error, why) or "alert" in why):
        return (
            f"The broker at {address} speaks TLS, but does not answer as an MQTT broker then: {why}. Does it ask for a "
            f"client certificate (mosquitto: 'require_certificate true')? {_NO_CERTIFICATE}{_or_limit(why)}"
        )
    if _breaks_off(error, why):
        return (
            f"The broker at {address} takes the connection, but does not answer as an MQTT broker "
            f"{'with' if address.tls else 'without'} TLS: {why}. {_other_scheme(address)}{_or_limit(why)}"
        )
    return (
        f"Cannot reach the MQTT broker at {address}: {why}. Check host and port, and that the "
        "broker runs and accepts connections from other machines (mosquitto: 'listener 1883', and a login or "
        "'allow_anonymous true')."
    )


def _login(address: Address, why: str) -> str:
    how = "Check user and password" if address.user is not None else "It asks for user and password"
    scheme = "mqtts" if address.tls else "mqtt"
    return f"The broker at {address} refused the login ({why}). {how}: {scheme}://user:password@host."


def _breaks_off(error: BaseException, why: str) -> bool:
    """Whether something is there that ends the conversation, or says nothing MQTT has words for."""
    if isinstance(error, (ssl.SSLError, BrokenOff, asyncio.IncompleteReadError)):
        return True
    return _unanswered(error, why) or any(words in why.lower() for words in _BROKEN_OFF)


def _unanswered(error: BaseException, why: str) -> bool:
    """Whether something listens (we have knocked), and says nothing."""
    return isinstance(error, aiomqtt.MqttError) and why == "no answer"


def _other_scheme(address: Address) -> str:
    if address.tls:
        return "Is it a port for TLS (mosquitto: 'certfile' and 'keyfile' below 'listener')? If not, write mqtt://."
    return "Is it a port for TLS? Then write mqtts://. Does a broker listen there at all?"


def _or_limit(why: str) -> str:
    """What else may be the reason where a connection was closed."""
    return f" Or {_LIMIT} Each device needs nine connections." if "closed" in why or "reset" in why else ""
