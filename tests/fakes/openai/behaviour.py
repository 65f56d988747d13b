"""Whose server the fake is, how one request goes wrong, and what was heard and billed."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto


class Kind(StrEnum):
    """Whose ways the fake has."""

    OPENAI = "openai"
    KOKORO = "kokoro"
    SPEACHES = "speaches"
    ODEA = "odea"


class End(Enum):
    """How the audio ends."""

    WHOLE = auto()
    CUT = auto()
    """The connection goes without the end of the chunked body."""
    STALL = auto()
    SHORT = auto()
    """Fewer bytes than the length that was announced."""
    UNMARKED = auto()
    """The end of the connection is the end of the body, as in HTTP/1.0."""


@dataclass(kw_only=True)
class Behaviour:
    """One answer. The defaults are a good one.

    Attributes:
        status: refuses with this HTTP status and `error`.
        body: sent instead of audio.
        content_type: instead of the format's own.
        form: the audio is in this format, whatever was asked for.
        pieces_before_end: pieces of audio before `end` comes into effect.
        pause_s: before `end` comes into effect; whoever reads has had what came before, and can't begin anew unseen.
        split_bytes: the audio is cut into packets of that length.
    """

    status: int = 200
    error: dict[str, object] = field(default_factory=dict[str, object])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    content_type: str | None = None
    form: str | None = None
    end: End = End.WHOLE
    pieces_before_end: int = 2
    pause_s: float = 0.0
    split_bytes: int | None = None


@dataclass(kw_only=True)
class Heard:
    """One request, as the fake saw it; billed as soon as work begins."""

    key: str
    body: bytes
    billed_units: int = 0
    pieces: int = 0
    audio: bytes = b""
    left: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
