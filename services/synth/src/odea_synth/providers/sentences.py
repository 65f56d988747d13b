"""Cuts text into pieces that are spoken one after the other: sentences, and parts of those that are too long.

The pieces joined are the text, to the character, so that they can be billed one by one. Time is linear in the text.
"""

# ruff: noqa: RUF001 - the typographic marks below are what real text is written with.
import re
from collections.abc import Iterator
from typing import Final

# A full stop behind one of these does not end a sentence.
ABBREVIATIONS: Final = frozenset(
    "Capt Col Dr Gen Gov Hon Jr Lt Mr Mrs Ms Mt Prof Rev Sen Sgt Sr St vs".split()  # noqa: SIM905 - read as one line
)

# Possessive throughout: a run of marks or blanks is looked at once, whatever it is followed by.
_END: Final = re.compile(
    r"""
    (?<![.!?…]) (?P<marks>[.!?…]++) ["'”’»)\]]*+ (?:\s++|$)     # stop, closing quotes, blank
    | [。！？]++ [」』”’）】]*+ \s*+                               # Chinese and Japanese need no blank
    | \n [^\S\n]*+ \n \s*+                                        # a new paragraph
    """,
    re.VERBOSE,
)
_CLAUSE: Final = re.compile(r"""[,;:]["'”’»)\]]*+\s++|[，、；：—]++\s*+|\s[-–]\s++""")
_OPENING: Final = "\"'“‘«([¿¡"
_LAST_WORD: Final = re.compile(r"(?<!\w)[^\W\d_]+$")
_WORD_CHARS_MAX: Final = 12
_OPENING_CHARS_MAX: Final = 3


def split(text: str, chars_max: int) -> Iterator[str]:
    """The pieces of a text, none of them empty or longer than `chars_max`.

    A piece keeps the blanks behind it. Too long a sentence is cut between clauses, else between words; a word is cut
    only if it alone is too long.
    """
    start = 0
    for end in _sentence_ends(text):
        yield from _bounded(text[start:end], chars_max)
        start = end


def _sentence_ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        if match.end() < len(text) and _ends_sentence(text, match):
            yield match.end()
    if text:
        yield len(text)


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    marks = match["marks"]
    if marks is None:
        return True
    following = text[match.end() : match.end() + _OPENING_CHARS_MAX + 1].lstrip(_OPENING)
    if following[:1].islower():
        return False
    return marks != "." or not _is_abbreviation(text[max(0, match.start() - _WORD_CHARS_MAX) : match.start()])


def _is_abbreviation(before: str) -> bool:
    found = _LAST_WORD.search(before)
    if found is None:
        return False
    word = found[0]
    # Initials are part of a name; "I" is mostly the pronoun.
    return word in ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")


def _bounded(sentence: str, chars_max: int) -> Iterator[str]:
    start = 0
    while (left := len(sentence) - start) > chars_max:
        # Parts of about the same length: no word or two left over at the end.
        parts = -(-left // chars_max)
        end = start + _cut(sentence[start : start + chars_max + 1], wanted=-(-left // parts))
        yield sentence[start:end]
        start = end
    yield sentence[start:]


def _cut(window: str, wanted: int) -> int:
    """Where to cut, given one character more than may be taken."""
    chars_max = len(window) - 1
    clauses = [end for match in _CLAUSE.finditer(window) if wanted // 2 <= (end := match.end()) <= chars_max]
    words = [
        end
        for end in range(1, chars_max + 1)
        # Behind the last blank of several, unless that one would be too many.
        if window[end - 1].isspace() and (end == chars_max or not window[end].isspace())
    ]
    return min(clauses or words or [chars_max], key=lambda end: abs(end - wanted))
