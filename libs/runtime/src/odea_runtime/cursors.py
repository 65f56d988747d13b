"""Cursors of lists: where a page ends, in a form that nobody is tempted to take apart.

A cursor names the last row that was shown, not a count of rows, so rows that come or go elsewhere shift nothing.
"""

import base64
import re
from enum import StrEnum
from typing import Final


class ListKind(StrEnum):
    """The lists that there are; a cursor of one means nothing to another."""

    TENANTS = "t"
    KEYS = "k"
    AUDIT = "a"


_ID: Final = re.compile("[A-Za-z0-9_]{1,64}")
_FORMS: Final = {ListKind.TENANTS: _ID, ListKind.KEYS: _ID, ListKind.AUDIT: re.compile("[1-9][0-9]{0,17}")}


def write_cursor(kind: ListKind, last: str) -> str:
    """The cursor behind the row `last`, an id or a number in digits."""
    return base64.urlsafe_b64encode(f"{kind.value}{last}".encode()).decode().rstrip("=")


def read_cursor(kind: ListKind, cursor: str | None) -> str | None:
    """The row behind which the page begins; `None` for the list's beginning.

    Raises:
        ValueError: no list of this kind has given this cursor.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:
        raise ValueError("not a cursor") from error
    last = text[1:]
    if not text.startswith(kind.value) or not _FORMS[kind].fullmatch(last) or write_cursor(kind, last) != cursor:
        raise ValueError("a cursor of another list")
    return last
