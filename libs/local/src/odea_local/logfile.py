"""A log file of bounded size: when it is full it becomes `<name>.1`, and the one before that is dropped."""

import re
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

LOG_BYTES_MAX = 5 * 1024 * 1024
TAIL_LINES_MAX = 20
LINE_BYTES_MAX = 4096
DISK_FULL = re.compile("No space left on device|Disk quota exceeded")
FAULT = re.compile(r"(?i)\b(fatal|panic|\w*error)\b")


class LogFile:
    """Appends what a process writes, and remembers the last lines for messages. Safe to use from several threads."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._rest = b""

    def write(self, content: bytes) -> None:
        """Append; a full or missing disk loses the text, because a process must never block on its own log."""
        with self._lock:
            self._remember(content)
            with suppress(OSError):
                self._rotate(len(content))
                # Opened each time, so that a deleted or moved file comes back and no descriptor is left behind.
                with self.path.open("ab") as file:
                    file.write(content)

    def tail(self) -> tuple[str, ...]:
        """The last lines that were written through this object, oldest first."""
        with self._lock:
            rest = self._rest.decode(errors="replace").strip()
            return (*self._tail, rest) if rest else tuple(self._tail)

    def last_words(self) -> str:
        """The line that says best why the process ended: a full disk, else the last named fault, else the last line."""
        lines = self.tail()[::-1]
        for pattern in (DISK_FULL, FAULT):
            if found := next(filter(pattern.search, lines), None):
                return found
        return lines[0] if lines else ""

    def forget(self) -> None:
        """Start a new tail, so that a message about a new process does not quote the one before."""
        with self._lock:
            self._tail.clear()
            self._rest = b""

    def _remember(self, content: bytes) -> None:
        *lines, rest = (self._rest + content).split(b"\n")
        self._rest = rest[:LINE_BYTES_MAX]
        self._tail.extend(line[:LINE_BYTES_MAX].decode(errors="replace").rstrip() for line in lines if line.strip())

    def _rotate(self, more_bytes: int) -> None:
        with suppress(FileNotFoundError):
            if self.path.stat().st_size + more_bytes > self._bytes_max:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
