"""WAV whose length is known in the end: a streamed one has placeholders, and strict readers see hours of audio."""

import struct
from typing import Final

_UNKNOWN_MIN: Final = 0x7FFFF000
"""Sizes from here on are placeholders, as is 0."""


def with_true_sizes(whole: bytes) -> bytes:
    """A whole WAV with its sizes in its header; what is no streamed WAV stays as it is."""
    at = _size_of_data(whole)
    if at is None:
        return whole
    mended = bytearray(whole)
    struct.pack_into("<I", mended, 4, len(whole) - 8)
    struct.pack_into("<I", mended, at, len(whole) - at - 4)
    return bytes(mended)


def _size_of_data(whole: bytes) -> int | None:
    """Where the size of the samples stands, if it is a placeholder."""
    if (whole[:4], whole[8:12]) != (b"RIFF", b"WAVE"):
        return None
    at = 12
    while len(whole) >= at + 8:
        name, size = struct.unpack_from("<4sI", whole, at)
        if name == b"data":
            return None if 0 < size < _UNKNOWN_MIN else at + 4
        at += 8 + size + size % 2
    return None
