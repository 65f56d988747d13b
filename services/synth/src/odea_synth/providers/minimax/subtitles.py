"""Turns MiniMax's subtitle file into timings."""

from collections.abc import Iterator

import msgspec

from odea_contracts.synth import TIMED_CHARS_MAX, TimestampKind, Timing
from odea_synth.providers.upstream import UNREADABLE, broken

BYTES_MAX = 16 * 1024 * 1024


class _Word(msgspec.Struct, frozen=True):
    word: str
    time_begin: float
    time_end: float


class _Segment(msgspec.Struct, frozen=True):
    text: str
    time_begin: float
    time_end: float
    timestamped_words: tuple[_Word, ...] | None = None


def timings_of(file: bytes, kind: TimestampKind) -> tuple[Timing, ...]:
    """The words or sentences of a subtitle file, without the blanks that have entries of their own.

    Raises:
        ProviderError: of class upstream; the file is not as agreed.
    """
    try:
        segments = msgspec.json.decode(file, type=tuple[_Segment, ...])
    except UNREADABLE as error:
        raise broken("the subtitles are not JSON as agreed") from error
    return tuple(_timings(segments, kind))


def _timings(segments: tuple[_Segment, ...], kind: TimestampKind) -> Iterator[Timing]:
    for segment in segments:
        if kind is TimestampKind.SENTENCE:
            yield from _timing(segment.text, segment.time_begin, segment.time_end)
            continue
        if segment.timestamped_words is None:
            raise broken("the subtitles have no words")
        for word in segment.timestamped_words:
            yield from _timing(word.word, word.time_begin, word.time_end)


def _timing(text: str, start_ms: float, end_ms: float) -> Iterator[Timing]:
    word = text.strip()[:TIMED_CHARS_MAX]
    if word:
        start = max(0, round(start_ms))
        yield Timing(word=word, start_ms=start, end_ms=max(start, round(end_ms)))
