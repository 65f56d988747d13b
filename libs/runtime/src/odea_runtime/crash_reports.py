"""Crash reports to Sentry, if there is a DSN: what was logged as an error, with its stack and without any secret (P6).

A report holds no values of local variables, no request and no breadcrumb, and passes the redaction of the logs. One
that can't be redacted is not sent. Without a DSN the library is not even imported.
"""

import logging
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr

from odea_runtime.logs import redact
from odea_runtime.row_values import without_values

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_FLUSH_S = 2.0
_DEPTH_MAX = 12
"""Frames lie deep in a report."""


def configure(service: str, dsn: SecretStr | None) -> None:
    """Report what this process logs as an error from now on. Does nothing without a DSN.

    Raises:
        ValueError: it is no DSN.
    """
    if dsn is None:
        return
    import sentry_sdk  # noqa: PLC0415 - most installations have no use for it

    sentry_sdk.init(
        dsn=dsn.get_secret_value(),
        release=f"odea@{version('odea-runtime')}",
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        send_default_pii=False,
        send_client_reports=False,
        auto_session_tracking=False,
        max_breadcrumbs=0,
        traces_sample_rate=None,
        before_send=_scrubbed,
        before_breadcrumb=_no_breadcrumb,
        shutdown_timeout=_FLUSH_S,
    )
    sentry_sdk.set_tag("service", service)
    logging.getLogger().addHandler(_Reporter(logging.ERROR))


def flush() -> None:
    """Wait a moment for reports under way; the process is about to end."""
    if any(isinstance(handler, _Reporter) for handler in logging.getLogger().handlers):
        import sentry_sdk  # noqa: PLC0415 - as above

        sentry_sdk.flush(timeout=_FLUSH_S)


class _Reporter(logging.Handler):
    """Turns a logged error into a report."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it over to the library's own thread."""
        import sentry_sdk  # noqa: PLC0415 - as above
        from sentry_sdk.utils import event_from_exception, exc_info_from_error  # noqa: PLC0415 - as above

        # Ours come as a table, those of libraries as text.
        logged: dict[str, Any] = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
        error = record.exc_info or logged.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()
        event: Event = {}
        hint: Hint = {}
        if isinstance(error, (BaseException, tuple)):
            options = sentry_sdk.get_client().options
            event, hint = event_from_exception(exc_info_from_error(cast("BaseException", error)), options)
            _forget_values(event, error[1] if isinstance(error, tuple) else error)
        event["level"] = "fatal" if record.levelno >= logging.CRITICAL else "error"
        event["logentry"] = {"message": str(logged.pop("event", ""))}
        event["extra"] = logged
        sentry_sdk.capture_event(event, hint)


def _forget_values(event: "Event", error: BaseException | None) -> None:
    for one in event.get("exception", {}).get("values", []):
        one["value"] = without_values(str(one.get("value") or ""), error)


def _scrubbed(event: "Event", _hint: "Hint") -> "Event | None":
    """The last gate. The library sends nothing when this raises or returns nothing."""
    for part in ("request", "user", "breadcrumbs", "modules"):
        event.pop(part, None)
    return cast("Event", redact(event, depth_max=_DEPTH_MAX))


def _no_breadcrumb(_crumb: dict[str, Any], _hint: dict[str, Any]) -> None:
    """None is kept."""
