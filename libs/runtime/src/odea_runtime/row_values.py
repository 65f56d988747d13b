"""PostgreSQL's errors repeat values of rows and of parameters: in DETAIL, and data exceptions in the message itself.

They are known by their attributes, since a gateway has no driver to import.
"""

from collections.abc import Iterator
from typing import Final

_ERRORS_MAX: Final = 50
_DATA_EXCEPTION: Final = "22"
"""The class of SQLSTATE whose messages name the value that does not fit."""
_LINE_CHARS_MIN: Final = 3
"""Shorter ones would mask letters of ordinary words."""
_MASK: Final = "[values]"


def without_values(text: str, error: BaseException | None) -> str:
    """`text` without what `error`, or one that led to it, says of the rows in a database."""
    # Line by line, since traces of groups begin each with a margin.
    lines = {line for words in _of_chain(error) for line in words.splitlines() if len(line) >= _LINE_CHARS_MIN}
    for line in sorted(lines, key=len, reverse=True):
        text = text.replace(line, _MASK)
    return text


def _of_chain(error: BaseException | None) -> Iterator[str]:
    ahead = [error]
    seen: set[int] = set()
    while ahead and len(seen) < _ERRORS_MAX:
        one = ahead.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield from _of_one(one)
        ahead += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            ahead += one.exceptions


def _of_one(error: BaseException) -> Iterator[str]:
    if type(error).__module__.partition(".")[0] != "asyncpg":
        return
    state = getattr(error, "sqlstate", None)
    if state is None or str(state).startswith(_DATA_EXCEPTION):
        # Also of the driver's own: `invalid input for query argument $1: 'its value'`.
        yield from (word for word in error.args if isinstance(word, str))
    for name in ("detail", "hint", "context"):
        words = getattr(error, name, None)
        if isinstance(words, str):
            yield words
