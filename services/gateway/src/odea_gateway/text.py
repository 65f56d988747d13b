"""Cleaning of text before it is counted and spoken: nothing invisible is charged, and nothing hides in what is heard.

Removed are control characters, bidirectional controls and all that Unicode calls default-ignorable (zero-width spaces,
fillers, variation selectors, tags). Kept are newline, tab, and the two joiners where writing needs them: between
characters of the scripts from Hebrew to the Vedic signs (Persian and the Indic scripts spell with them), and ZWJ
between emoji. Other line ends become newlines. Nothing else is collapsed or trimmed; the result is in NFC.
"""

import re
import unicodedata
from typing import Final

_LINE_END: Final = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE: Final = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x9f"  # controls, without tab and the line ends
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)
_COMPLEX: Final = "[\u0590-\u1cff]"
_EMOJI: Final = "[\u2190-\u2bff\U0001f000-\U0001faff]"
_JOINER: Final = re.compile(
    f"((?<={_COMPLEX})[\u200c\u200d](?={_COMPLEX})|(?<={_EMOJI})\u200d(?={_EMOJI}))|[\u200c\u200d]"
)


def clean(text: str) -> str:
    """`text` without what can't be heard; cleaning again changes nothing."""
    if text.isascii() and text.isprintable():
        return text
    text = _INVISIBLE.sub("", _LINE_END.sub("\n", text))
    # Twice, since a joiner is judged by its neighbours as they will stand, and may stand between what composes.
    text = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", _JOINER.sub(r"\1", text))
