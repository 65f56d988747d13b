"""Logs: one line an event on stderr, the request id on each, and no secret in any.

Lines of libraries pass through the same redaction as our own. Redaction is the net below the rule that secrets are not
logged at all; it knows the shapes of our keys, of bearer tokens and of passwords in URLs, and sensitive field names.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_MASK = "[redacted]"
_SENSITIVE_NAMES = re.compile(r"(?i)secret|password|passwd|authorization|api[-_]?key|pepper|token|cookie|dsn|seed")
_SENSITIVE_TEXT = re.compile(
    r"odea_sk_[A-Za-z0-9_]+"
    r"|(?<=[Bb]earer )[^\s\"',]+"
    r"|(?<=://)[^/\s@\"']+(?=@)"
    r"|\bsk-[A-Za-z0-9_-]{8,}"
    r"|\bSU[A-Z2-7]{56}\b"
)
_DEPTH_MAX = 6


def redact_text(text: str) -> str:
    """`text` with everything that looks like a secret masked."""
    return _SENSITIVE_TEXT.sub(_MASK, text)


def redact(value: Any, depth: int = 0) -> Any:
    """`value` with secrets masked in its strings and under its sensitive names, to a bounded depth."""
    if isinstance(value, str):
        return redact_text(value)
    if depth >= _DEPTH_MAX:
        return _MASK
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {k: _MASK if _SENSITIVE_NAMES.search(str(k)) else redact(v, depth + 1) for k, v in items}
    if isinstance(value, (list, tuple)):
        return [redact(item, depth + 1) for item in cast("list[Any]", value)]
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    return redact_text(str(value))


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return cast("EventDict", redact(event))


def configure(service: str, *, log_format: str = "json", level: str = "info") -> None:
    """Send the logs of this process, and of the libraries in it, to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _service_name(service),
    ]
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    last: list[Processor] = [structlog.processors.format_exc_info, without_meta]
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Their every message and connection at INFO would drown ours; trouble still comes through.
    for name in ("faststream", "nats", "asyncpg", "alembic", "httpx", "granian", "_granian"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _service_name(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add
