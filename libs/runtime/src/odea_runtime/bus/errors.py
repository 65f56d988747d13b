"""How a call over the bus can end without a reply."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises; the last two come through msgspec for bytes that are no UTF-8 and for nesting without end."""


class BusError(Exception):
    """A call that brought no reply."""

    outcome = "error"


class DisconnectedError(BusError):
    """There is no connection to NATS; the request was not sent."""

    outcome = "disconnected"


class NoRespondersError(BusError):
    """Nobody serves the subject; the request was certainly not handled."""

    outcome = "no_responders"


class CallTimeoutError(BusError):
    """No reply in time; the request may or may not have been handled."""

    outcome = "timeout"


class BadReplyError(BusError):
    """The reply is not what the contract says."""

    outcome = "bad_reply"


class UnavailableError(Exception):
    """What a handler stands on is not there. The endpoint answers with its service's own code for that."""
