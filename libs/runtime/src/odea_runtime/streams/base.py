"""The bounds of audio streams, who asks for them, and the ways in which they end badly."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from odea_contracts.errors import Failure
from odea_contracts.synth import CancelReason
from odea_runtime.settings import Settings


class StreamSettings(Settings):
    """The bounds of audio streams."""

    stream_window_frames: Annotated[int, Field(ge=1, le=1024)] = 16
    """Audio frames under way that the receiver has not consumed; each is at most 64 KiB."""
    stream_beat_s: Annotated[float, Field(gt=0, le=10)] = 1.0
    """How often each end gives a sign of life."""
    stream_answer_s: Annotated[float, Field(gt=0, le=60)] = 1.8
    """How long a sender may take to its first sign of life before it is taken for absent (P9)."""
    stream_fresh_s: Annotated[float, Field(ge=0, le=60)] = 0.8
    """A request for a stream that is older, or younger than nothing, by the clocks of both hosts, may be one that its
    receiver has given up: nothing is done for it until the receiver has given a sign of life. 0 asks every one."""
    stream_silence_s: Annotated[float, Field(gt=0, le=60)] = 3.5
    """After how long without one the other end is taken for dead."""
    stream_receipt_s: Annotated[float, Field(gt=0, le=86_400)] = 4000.0
    """How long a receiver that gives signs of life may take from the tail to its receipt; longer than a slow client may
    take to a whole speech."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Who has asked for a stream.

    Attributes:
        inbox: where its frames go.
        bundles_to: where frames of several streams go together; empty if it takes each by itself.
        waits_s: how long the head is waited for; `None` if that was not said.
        waited_s: how long it has waited already, by the clocks of both hosts; `None` if that was not said.
    """

    inbox: str
    bundles_to: str = ""
    waits_s: float | None = None
    waited_s: float | None = None


class StreamBrokenError(Exception):
    """The stream ended without its tail, or not as the tail says. What has arrived is not the whole."""


class RefusedError(Exception):
    """The stream ended with a failure instead of audio."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


class CancelledByReceiverError(Exception):
    """The receiver wants no more; `reason` is `None` if it fell silent."""

    def __init__(self, reason: CancelReason | None) -> None:
        super().__init__(reason or "silent")
        self.reason = reason
