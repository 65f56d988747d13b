"""Subjects and bodies of the bare chain."""

from typing import Final

import msgspec

SPEAK: Final = "bare.speak"
RESERVE: Final = "bare.reserve"
SETTLE: Final = "bare.settle"
REPLIES: Final = "bare.reply"


class Speech(msgspec.Struct):
    """What is to be said."""

    id: str
    body: bytes


class Hold(msgspec.Struct):
    """A hold, to be written or to be settled."""

    id: str
    units: int
