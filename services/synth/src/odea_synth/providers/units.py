"""What a text is billed where Han characters cost double, as with MiniMax: two units for one of them, else one.

It is told only at the end, and the rule is silent on some scripts, so that there is a likely figure and one that cannot
be exceeded.
"""

import re
import unicodedata
from typing import Final

_HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_ABOVE_ASCII: Final = re.compile("[^\x00-\x7f]")


def likely_units(text: str) -> int:
    """What will most likely be billed."""
    return len(text) if text.isascii() else len(text) + len(_HAN.findall(text))


def most_units(text: str) -> int:
    """What can be billed at most: what is as wide as a Han character, or takes two units of UTF-16, counts twice."""
    return len(text) + sum(map(_may_count_twice, _ABOVE_ASCII.findall(text)))


def _may_count_twice(char: str) -> bool:
    return char > "\uffff" or unicodedata.east_asian_width(char) in ("W", "F", "H") or bool(_HAN.match(char))
