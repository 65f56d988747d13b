"""Traces that are really made and sent, by OTLP over HTTP.

Spans wait in a bounded queue for a thread of their own, so a collector that is slow or gone costs spans and nothing
else. Before they leave, all that is not known to be harmless is taken out.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import structlog
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from prometheus_client import Counter

from odea_runtime import logs
from odea_runtime.settings import Settings

SHOWN: Final = frozenset(
    {
        "http.request.method", "http.route", "http.response.status_code", "error.type",
        "messaging.system", "messaging.destination.name",
        "db.system", "db.name", "db.statement",
        "odea.request_id", "odea.provider", "odea.outcome",
    }
)  # fmt: skip
"""The attributes that may leave. Statements are static: what callers say is in their parameters, which are not read."""
_VALUE_CHARS_MAX: Final = 1000
_LINKS_MAX: Final = 32
_EXPORT_S: Final = 5.0
_FLUSH_S: Final = 2.0
_BATCH_MAX: Final = 512
_PAUSE_S: Final = 1.0

_SPANS = Counter("odea_trace_spans_total", "Spans handed to the collector, or lost with a failed attempt", ["outcome"])
_W3C: Final = TraceContextTextMapPropagator()


class Tracing:
    """Makes the spans of one process.

    Args:
        service: its name in traces, after `odea-`.
        settings: where they go, which share of them, how many may wait.

    Raises:
        ValueError: the endpoint is no URL, or the headers are not `name=value`.
    """

    def __init__(self, service: str, settings: Settings) -> None:
        assert settings.otlp_endpoint is not None
        # The library says each failure with its stack, at every attempt; ours says that it has begun, and ended.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(
            endpoint=_endpoint(settings.otlp_endpoint.get_secret_value()),
            headers=_headers(settings),
            timeout=_EXPORT_S,
        )
        self._provider = TracerProvider(
            sampler=ParentBased(root=_Entrances(settings.trace_ratio)),
            resource=Resource.create({"service.name": f"odea-{service}", "service.version": version("odea-runtime")}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _Scrubbing(exporter),
                max_queue_size=settings.trace_queue_max,
                schedule_delay_millis=_PAUSE_S * 1000,
                max_export_batch_size=min(_BATCH_MAX, settings.trace_queue_max),
            )
        )
        self._tracer = self._provider.get_tracer("odea")

    def stop(self) -> None:
        """Send what waits, for a moment at most."""
        sender = threading.Thread(target=self._provider.shutdown, daemon=True)
        sender.start()
        sender.join(_FLUSH_S)

    def trace_statements(self) -> None:
        """See `tracing.trace_statements`."""
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor  # noqa: PLC0415 - gateways lack asyncpg

        AsyncPGInstrumentor().instrument(tracer_provider=self._provider)

    def serving(self, name: str, place: str, *, bus: bool = False) -> "LiveSpan":
        """A request that has come in."""
        return self._span(name, SpanKind.SERVER, _at(place), _of_bus(name) if bus else None)

    def calling(self, subject: str) -> "LiveSpan":
        """A request over the bus."""
        return self._span(subject, SpanKind.CLIENT, None, _of_bus(subject))

    def working(self, name: str, places: Iterable[str]) -> "LiveSpan":
        """Work for several requests."""
        sampled = [one for one in map(_at, places) if _named_by(one).trace_flags.sampled]
        links = [Link(_named_by(one)) for one in sampled[1 : 1 + _LINKS_MAX]]
        return self._span(name, SpanKind.INTERNAL, sampled[0] if sampled else Context(), None, links)

    def asking(self, name: str) -> "LiveSpan":
        """A request to an upstream."""
        return LiveSpan(self._tracer.start_span(name, kind=SpanKind.CLIENT), current=False)

    def place(self) -> str:
        """The value of `traceparent` here."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent", "")

    def _span(
        self,
        name: str,
        kind: SpanKind,
        parent: Context | None,
        attributes: Mapping[str, str | int] | None,
        links: Sequence[Link] = (),
    ) -> "LiveSpan":
        return LiveSpan(
            self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes, links=links), current=True
        )


class LiveSpan:
    """A span as a block; see `tracing.Span`."""

    __slots__ = ("_current", "_failed", "_span", "_token")

    def __init__(self, span: trace.Span, *, current: bool) -> None:
        self._span = span
        self._current = current
        self._failed = False
        self._token: Any = None

    def __enter__(self) -> Self:
        """Be where further spans belong."""
        if self._current:
            self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End it."""
        if kind is not None and not self._failed:
            self.fail(kind.__name__)
        if self._token is not None:
            context.detach(self._token)
        self._span.end()

    def note(self, name: str, value: str | float) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Change the name."""
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        """Set the status, without words."""
        self._failed = True
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attribute("error.type", kind)


class _Entrances(Sampler):
    """Traces begin with requests: what runs by itself, such as a look at the outbox, makes none."""

    def __init__(self, ratio: float) -> None:
        self._ratio = TraceIdRatioBased(ratio)

    def should_sample(  # noqa: PLR0917 - as the library calls it
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """Whether a trace begins here."""
        if kind is not SpanKind.SERVER:
            return SamplingResult(Decision.DROP)
        return self._ratio.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For the library's own use."""
        return f"Entrances{{{self._ratio.get_description()}}}"


class _Scrubbing(SpanExporter):
    """The last gate: what is not listed does not leave, nor does anything if that fails."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send what is left of them."""
        result = SpanExportResult.FAILURE
        with suppress(Exception):
            result = self._inner.export([scrubbed(span) for span in spans])
        failed = result is not SpanExportResult.SUCCESS
        _SPANS.labels("lost" if failed else "sent").inc(len(spans))
        if failed is not self._failing:
            self._failing = failed
            log = structlog.get_logger()
            log.warning("traces can't be sent") if failed else log.info("traces are sent again")
        return result

    def shutdown(self) -> None:
        """Give up on what is under way."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._inner.force_flush(timeout_millis)


def scrubbed(span: ReadableSpan) -> ReadableSpan:
    """The span without words that are not ours: no events, which hold errors' texts, no description of its status."""
    attributes = {name: _shown(value) for name, value in (span.attributes or {}).items() if name in SHOWN}
    return ReadableSpan(
        name=logs.redact_text(span.name)[:_VALUE_CHARS_MAX],
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        links=[Link(link.context) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _shown(value: object) -> str | bool | int | float:
    return value if isinstance(value, (bool, int, float)) else logs.redact_text(str(value))[:_VALUE_CHARS_MAX]


def _at(place: str) -> Context:
    """The context that a `traceparent` names; an empty one if it names none."""
    return _W3C.extract({"traceparent": place} if place else {}, context=Context())


def _named_by(where: Context) -> trace.SpanContext:
    return trace.get_current_span(where).get_span_context()


def _of_bus(subject: str) -> dict[str, str | int]:
    return {"messaging.system": "nats", "messaging.destination.name": subject}


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that begins with http:// or https://")
    return url if parts.path.rstrip("/").endswith("/v1/traces") else f"{url.rstrip('/')}/v1/traces"


def _headers(settings: Settings) -> dict[str, str]:
    """What the collector wants to see, as the standard variable has it: `name=value` with commas, percent-encoded."""
    if settings.otlp_headers is None:
        return {}
    headers: dict[str, str] = {}
    for pair in filter(None, settings.otlp_headers.get_secret_value().split(",")):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError("headers must be name=value, separated by commas")
        headers[name.strip()] = unquote(value.strip())
    logs.conceal(value for value in headers.values() if len(value) >= 8)
    return headers
