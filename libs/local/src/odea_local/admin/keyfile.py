"""A CSV of new keys, which nobody else may read and which an interruption does not spoil."""

import csv
import io
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@")


def written(path: Path, column: str) -> set[str]:
    """What stands in a column of the lines that are whole. A line that was cut is cut off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return set()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
    return {row[column] for row in csv.DictReader(io.StringIO(whole.decode()))}


@contextmanager
def appending(path: Path) -> Generator[io.BufferedWriter]:
    """The file, which nobody else may read from its first moment on."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "ab") as file:
        os.fchmod(file.fileno(), 0o600)
        yield file


def write_line(file: io.BufferedWriter, cells: Iterable[str]) -> None:
    """A line, which is on the disk before the next key is rotated."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_plain(cell) for cell in cells])
    file.write(line.getvalue().encode())
    file.flush()
    os.fsync(file.fileno())


def _plain(cell: str) -> str:
    """A spreadsheet takes some names for formulas; an apostrophe tells it that they are none."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
