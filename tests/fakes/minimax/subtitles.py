"""Subtitle files: segments of at most fifty characters, and their words, over the length of the tone."""

import re

import msgspec

from fakes.minimax.requests import T2a
from fakes.tones import SECONDS_PER_CHARACTER

SEGMENT_CHARS_MAX = 50


def subtitles(asked: T2a) -> bytes:
    """The file that goes with a text."""
    segments = [
        _segment(asked, found.start(), found.end())
        for found in re.finditer(rf"[^.!?]{{1,{SEGMENT_CHARS_MAX - 1}}}[.!?]*\s*", asked.text)
    ]
    return msgspec.json.encode(segments)


def _segment(asked: T2a, start: int, end: int) -> dict[str, object]:
    text = asked.text[start:end]
    segment: dict[str, object] = {
        "text": text,
        "pronounce_text": text,
        "time_begin": _ms(start),
        "time_end": _ms(end),
        "text_begin": start,
        "text_end": end,
        "pronounce_text_begin": start,
        "pronounce_text_end": end,
        "is_final_segment": end == len(asked.text),
    }
    if asked.subtitle_type != "sentence":
        # Blanks are entries of their own.
        segment["timestamped_words"] = [
            _word(found[0], start + found.start(), start + found.end()) for found in re.finditer(r"\s|[^\s]+", text)
        ]
    return segment


def _word(word: str, start: int, end: int) -> dict[str, object]:
    return {
        "word": word,
        "word_begin": start,
        "word_end": end,
        "pronounce_word": word,
        "pronounce_word_begin": start,
        "pronounce_word_end": end,
        "time_begin": _ms(start),
        "time_end": _ms(end),
    }


def _ms(position: int) -> float:
    return position * SECONDS_PER_CHARACTER * 1000
