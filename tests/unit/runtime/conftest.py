"""The logs of this process, as a service configures them, caught instead of written to stderr."""

import io
import logging
import sys
from collections.abc import Callable, Generator
from typing import Any, cast

import msgspec
import pytest
import structlog

from odea_runtime import logs

LIBRARIES = ("faststream", "nats", "asyncpg", "alembic", "httpx", "granian", "_granian")


class Caught:
    """What was logged."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        """Each line as the object that it is; a line that is none fails."""
        return [cast("dict[str, Any]", msgspec.json.decode(line)) for line in self.text.splitlines()]

    def line(self) -> dict[str, Any]:
        """The only line."""
        [line] = self.lines()
        return line


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[..., Caught]]:
    """`logs.configure`, taken back after the test."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, {name: logging.getLogger(name).level for name in LIBRARIES})

    def configured(**options: str) -> Caught:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        # Lets go of the runner's handlers first, because configuring closes what it finds.
        root.handlers = []
        logs.configure("hall", **options)
        return Caught(stream)

    yield configured
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = before[0], before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)
