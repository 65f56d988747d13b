"""Cursors of lists: where a page ends, in a form that nobody is tempted to take apart.

A cursor names the last row that was shown, not a count of rows, so rows that come or go elsewhere shift nothing.
"""

import base64
import binascii
from enum import StrEnum


class ListKind(StrEnum):
    """The lists that there are; a cursor of one means nothing to another."""

    TENANTS = "t"
    KEYS = "k"
    AUDIT = "a"


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
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not a cursor") from error
    if not text.startswith(kind.value) or write_cursor(kind, text[1:]) != cursor:
        raise ValueError("a cursor of another list")
    return text[1:]
