"""Rows of the database as structs."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def convert(kind: type[T], row: Mapping[str, Any]) -> T:
    """The row as a `kind`, whose fields are named like its columns."""
    return msgspec.convert(dict(row), kind)
