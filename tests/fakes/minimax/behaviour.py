"""How one request to the fake goes wrong, and what it has heard and billed."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto


class End(Enum):
    """How a stream ends."""

    WHOLE = auto()
    SILENT = auto()
    """Cleanly, but without the event of status 2."""
    CUT = auto()
    """The connection goes, in the middle of an event."""
    STALL = auto()
    """Nothing comes any more."""
    ERROR = auto()
    """An event with an error code."""


@dataclass(kw_only=True)
class Behaviour:
    """One answer. The defaults are a good one.

    Attributes:
        code: refuses with this code as bare JSON and HTTP 200, before any audio; in the middle if `end` is ERROR.
        status: refuses with this HTTP status.
        body: sent instead of an answer.
        pieces_before_end: pieces of audio before `end` comes into effect.
        split_bytes: every event is cut into packets of that length.
        padding_bytes: a field of that length in every event.
        repeats: the last event has the whole audio again although that was not wanted.
        last_audio: whether the last event has an empty field `audio`, or none.
        usage: what is said to be billed, if not the truth.
        piece: sent as the hex of a piece, instead of its own.
        subtitles: what the subtitle file holds, if not the truth.
    """

    code: int = 0
    text: str = "failed"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    end: End = End.WHOLE
    pieces_before_end: int = 2
    split_bytes: int | None = None
    padding_bytes: int = 0
    repeats: bool = False
    last_audio: bool = True
    usage: int | None = None
    piece: str | None = None
    no_audio: bool = False
    done_marker: bool = False
    subtitles: bytes | None = None


@dataclass(kw_only=True)
class Heard:
    """One request, as the fake saw it.

    Attributes:
        billed_units: what the account was charged: everything as soon as work begins, nothing when it is refused.
        left: the client closed the connection before the end.
        ended: set when nothing is done for it any more.
    """

    key: str
    path: str
    query: dict[str, str]
    body: bytes
    billed_units: int = 0
    pieces: int = 0
    audio: bytes = b""
    left: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
