"""What Piper is given to say for a piece of text: the same words, with nothing in them that it takes for a command.

Billing counts the caller's text and never what comes out of here.
"""

import re
import unicodedata
from typing import Final

from odea_synth.providers.sentences import ABBREVIATIONS

# Brackets, because Piper reads `[[...]]` as raw phonemes; control characters, because eSpeak has commands in them;
# lone surrogates, which it cannot take; emoji, which it would call by their long names.
_UNSPOKEN: Final = re.compile(
    "[\\[\\]\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200d\ufe0f\u20e3\u2600-\u27bf\u2b00-\u2bff"
    "\U0001f000-\U0001faff\U000e0000-\U000e007f]+"
)
# eSpeak ends the sentence at any full stop, also behind a title or an initial.
_ABBREVIATED: Final = re.compile(rf"\b({'|'.join(sorted(ABBREVIATIONS))}|(?<![\w.])[A-HJ-Z])\.(?=\s+\w)")
# It joins the words on both sides of an ellipsis.
_ELLIPSIS: Final = re.compile(r"\s*(?:\.{2,}|…)[.…]*")
_SPOKEN_SIGNS: Final = "&@#%"


def plain(text: str) -> str:
    """The words of a piece, safe for Piper."""
    text = _UNSPOKEN.sub(" ", text)
    text = _ABBREVIATED.sub(r"\1", text)
    return _ELLIPSIS.sub(lambda found: ", " if is_speakable(text[found.end() :]) else ".", text)


def is_speakable(text: str) -> bool:
    """Whether there is anything to say: a letter, a digit or a sign that has a name; blanks and stops have none."""
    return any(
        char.isalnum() or char in _SPOKEN_SIGNS or unicodedata.category(char) in ("Sc", "Sm", "So") for char in text
    )
