"""Logs: one line an event on stderr, the request id on each, and no secret in any.

Lines of libraries pass through the same redaction as our own. Redaction is the net below the rule that secrets are not
logged at all; it knows the shapes of our keys, of bearer tokens and of passwords in URLs, sensitive field names, and
the secrets that this very process was given.
"""

import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from odea_runtime.row_values import without_values

_MASK = "[redacted]"
SENSITIVE_NAMES = re.compile(
    r"(?i)secret|password|passwd|authorization|api[-_]?key|pepper|token|cookie|dsn|seed|digest"
)
_SENSITIVE_TEXT = re.compile(
    r"odea_sk_[A-Za-z0-9_]+"
    r"|(?i:\bbearer[ \t]+)[^\s\"',]+"
    r"|(?i:\bauthorization\W{1,6}\w+[ \t]+)[^\s\"',]+"
    r"|(?i:(?:password|passwd|secret|token|api[-_]?key|pepper)[\"']?\s?[=:]\s?[\"']?)[^\s&\"',;]+"
    # Users and passwords in URLs, also in wrong ones, whose password holds a slash or an at sign. The bound keeps the
    # search linear.
    r"|(?<=://)(?:[^/\s:@\"']*:[^\s\"']{1,200}|[^/\s\"']+)(?=@)"
    r"|\bsk-[A-Za-z0-9_-]{8,}"
    r"|\bSU[A-Z2-7]{56}\b"
)
_DEPTH_MAX = 6


class _Known:
    """What `conceal` was told, as one expression."""

    pattern: re.Pattern[str] | None = None


_known = _Known()
_concealed: set[str] = set()


def redact_text(text: str) -> str:
    """`text` with everything that looks like a secret masked, and nothing in it that JSON can't carry."""
    if _known.pattern:
        text = _known.pattern.sub(_MASK, text)
    masked = _SENSITIVE_TEXT.sub(_MASK, text)
    return masked if masked.isascii() else masked.encode("utf-8", "backslashreplace").decode()


def conceal(secrets: Iterable[str]) -> None:
    """Mask these from now on wherever they stand, whatever they look like."""
    _concealed.update(secrets)
    # The longest first, so that none is left half-masked by another that it begins with.
    alternatives = "|".join(map(re.escape, sorted(_concealed, key=len, reverse=True)))
    _known.pattern = re.compile(alternatives) if alternatives else None


def redact(value: Any, depth: int = 0, *, depth_max: int = _DEPTH_MAX) -> Any:
    """`value` with secrets masked in its strings and under its sensitive names, to a bounded depth."""
    if isinstance(value, str):
        return redact_text(value)
    if depth >= depth_max:
        return _MASK
    if isinstance(value, Mapping):
        items = [(_show(k), v) for k, v in cast("Mapping[Any, Any]", value).items()]
        return {
            redact_text(k): _MASK if SENSITIVE_NAMES.search(k) else redact(v, depth + 1, depth_max=depth_max)
            for k, v in items
        }
    if isinstance(value, (list, tuple)):
        return [redact(item, depth + 1, depth_max=depth_max) for item in cast("list[Any]", value)]
    if value is None or isinstance(value, (int, bool)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redact_text(_show(value))


def _show(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a line about trouble must not be lost because one of its values can't be shown
        return f"<unprintable {type(value).__name__}>"


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return cast("EventDict", redact(event))


def _stack(exc_info: ExcInfo) -> str:
    return without_values("".join(traceback.format_exception(*exc_info)).rstrip("\n"), exc_info[1])


def configure(service: str, *, log_format: str = "json", level: str = "info") -> None:
    """Send the logs of this process, and of the libraries in it, to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _service_name(service),
    ]
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    last: list[Processor] = [structlog.processors.ExceptionRenderer(_stack), without_meta]
    if log_format == "json":
        last += [_redact_event, structlog.processors.JSONRenderer()]
    else:
        last += [_redact_event, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Their every message and connection at INFO would drown ours; trouble still comes through.
    for name in ("faststream", "nats", "asyncpg", "alembic", "httpx", "granian", "_granian"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines, and where one can't be made says so, without its content."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        """Instead of printing the record as it is, secrets included."""
        line = {"level": "error", "event": "a log line could not be written", "place": f"{record.name}:{record.lineno}"}
        with suppress(OSError, ValueError):
            self.stream.write(json.dumps(line) + "\n")


def _service_name(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add
