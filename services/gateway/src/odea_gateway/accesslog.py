"""One line a request. It is most of what a busy gateway logs, so JSON is written without the detour of a logger.

Nothing in it needs redaction: a request id that could hide a key is not accepted (see `edge`), and the rest is ours.
"""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from odea_gateway.settings import GatewaySettings
from odea_gateway.trace import Trace

_log = structlog.get_logger()
_OURS: Final = frozenset({"event", "level", "service", "request_id", "timestamp"})
"""Fields that the logger adds by itself."""


class _Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    method: str
    route: str
    status: int
    duration_ms: float
    event: str
    level: str
    service: str
    request_id: str
    timestamp: str
    tenant_id: str | None = None
    key_id: str | None = None
    code: str | None = None
    outcome: str | None = None


class AccessLog:
    """Writes the lines, if the settings want them."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._wanted = settings.access_log and settings.log_level in {"debug", "info"}
        self._json = settings.log_format == "json"
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []

    def write(self, trace: Trace, *, method: str, route: str, status: int, seconds: float) -> None:
        """A request has ended."""
        if not self._wanted:
            return
        line = _Line(
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            event="request",
            level="info",
            service="gateway",
            request_id=trace.request_id,
            timestamp=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            tenant_id=trace.tenant_id,
            key_id=trace.key_id,
            code=trace.code,
            outcome=trace.outcome,
        )
        if self._json:
            if not self._lines:
                # Requests that end in the same turn of the loop are written together.
                asyncio.get_running_loop().call_soon(self._flush)
            self._lines.append(self._encoder.encode(line))
        else:
            known = msgspec.structs.asdict(line).items()
            _log.info("request", **{name: value for name, value in known if value is not None and name not in _OURS})

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        sys.stderr.write(b"\n".join((*lines, b"")).decode())
