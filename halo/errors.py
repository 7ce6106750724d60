"""Every error that HALO raises on purpose. A message says what happened, why, and what to try."""

from __future__ import annotations


class HaloError(Exception):
    """The base of all of HALO's own errors; its text is meant for the user."""


class ModelError(HaloError):
    """A model file cannot be used: missing, damaged, or of a kind that HALO does not know."""


class SidecarError(HaloError):
    """A sidecar cannot be used: missing, damaged, or made for another model or grid."""


class TextError(HaloError):
    """A text cannot be calibrated or measured with: empty, binary or too short."""


class OutputError(HaloError, OSError):
    """A file cannot be written: no room, no permission, no such folder."""


class BrokerError(HaloError):
    """The MQTT broker cannot be reached, refuses the login, or cannot be started."""


class CellError(HaloError):
    """The devices of a cell do not fit together: two hubs, another model, too few workers."""


class MissingExtraError(HaloError, ImportError):
    """A part of HALO needs a package that is not installed, or not in this version."""


class ContextError(HaloError, ValueError):
    """A prompt does not fit into the context window, or leaves nothing to go on from."""
