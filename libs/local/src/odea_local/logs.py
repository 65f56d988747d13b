"""Reading the stack's logs: the last lines of each, and what is added to them from then on."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from odea_local.logfile import LOG_BYTES_MAX

POLL_PAUSE_S = 0.2


@dataclass(slots=True)
class _Reader:
    """Where one file has been read to; survives its rotation."""

    path: Path
    inode: int = 0
    offset: int = 0
    rest: bytes = field(default=b"")

    def new_lines(self) -> list[str]:
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self.inode:
                self.inode, self.offset = inode, 0
            file.seek(self.offset)
            content = file.read(LOG_BYTES_MAX)
            self.offset += len(content)
            *lines, self.rest = (self.rest + content).split(b"\n")
            return [line.decode(errors="replace") for line in lines]
        return []


def read(folder: Path, names: tuple[str, ...], lines_max: int, *, follow: bool) -> Iterator[tuple[str, str]]:
    """Pairs of a log's name and a line: at first the last `lines_max` of each, then, if asked to, new ones for ever."""
    readers = {name: _Reader(folder / f"{name}.log") for name in names}
    for name, reader in readers.items():
        lines = reader.new_lines()
        yield from ((name, line) for line in lines[max(0, len(lines) - lines_max) :])
    while follow:
        fresh = [(name, line) for name, reader in readers.items() for line in reader.new_lines()]
        yield from fresh
        if not fresh:
            time.sleep(POLL_PAUSE_S)
