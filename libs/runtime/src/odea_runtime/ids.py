"""Identifiers: sortable by time where rows are kept in order, random where they must not be guessed."""

import secrets
from typing import Final

import uuid_utils

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_uuid() -> str:
    """A UUIDv7 (RFC 9562) in its text form: rows with such ids lie in the index in the order of their creation."""
    return str(uuid_utils.uuid7())


def new_id(prefix: str) -> str:
    """An id such as `ten_018f…`: the prefix says what it names, the rest sorts by time."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def random_base62(length: int) -> str:
    """Letters and digits from the system's random source, about 5.95 bits each."""
    return "".join(secrets.choice(BASE62) for _ in range(length))
