"""The outermost layer: what is done for every request, whatever becomes of it.

It bounds how many are in hand, gives each a request id, its log line and its metrics, adds the headers that protect
browsers, and turns what nobody caught into a plain 500 or, when the body had begun, into a visibly broken one.
"""

import re
import time
from typing import Final, TypeAlias

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import Counter, Gauge, Histogram

from odea_contracts.base import REQUEST_ID
from odea_contracts.errors import ErrorCode
from odea_gateway.accesslog import AccessLog
from odea_gateway.addresses import caller_address, networks
from odea_gateway.problems import Answer, answer, problem
from odea_gateway.settings import GatewaySettings
from odea_gateway.trace import Trace, put_trace
from odea_runtime import tracing
from odea_runtime.counting import by_labels
from odea_runtime.ids import new_id
from odea_runtime.logs import redact_text

_PATH_BYTES_MAX: Final = 1024
_REQUEST_ID: Final = re.compile(REQUEST_ID.encode())
_CLOSED_BY_CLIENT: Final = 499
"""What logs and metrics call a request whose client left before its answer began; it is never sent."""

_log = structlog.get_logger()
_REQUESTS: Final = Counter("odea_http_requests_total", "Requests by how they ended", ["method", "route", "status"])
_SECONDS: Final = Histogram(
    "odea_http_request_seconds",
    "From the request's head to the last byte of its answer",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
_requests: Final = by_labels(_REQUESTS)
_seconds: Final = by_labels(_SECONDS)
_IN_HAND: Final = Gauge("odea_http_requests_in_hand", "Requests being served")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
_PROTECTION: Final[Headers] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"server", b"odea"),
)


class Edge:
    """Wraps the application.

    Args:
        app: what serves the requests.
        settings: how many requests at the same time; one more is refused as overloaded. Whose word on addresses counts.
        log: gets a line of each.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings, log: AccessLog) -> None:
        self._app = app
        self._requests_max: Final = settings.requests_max
        self._trusted: Final = networks(settings.trusted_proxies)
        self._protection: Final = _protection(settings)
        self._log = log
        self._trace_callers: Final = settings.trace_callers
        self.in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Returning before the last message makes the server break the connection."""
        if scope["type"] != "http":
            return
        trace = Trace(
            request_id=_request_id(scope),
            began=time.perf_counter(),
            address=caller_address((scope["client"] or ("",))[0], scope["headers"], self._trusted),
        )
        put_trace(scope, trace)
        structlog.contextvars.bind_contextvars(request_id=trace.request_id)
        self.in_hand += 1
        _IN_HAND.set(self.in_hand)
        try:
            with tracing.entering(_place(scope) if self._trace_callers else "") as span:
                try:
                    await self._serve(scope, receive, _Sender(send, trace, self._protection), trace)
                finally:
                    self._record(scope, trace, span)
        finally:
            self.in_hand -= 1
            _IN_HAND.set(self.in_hand)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: "_Sender", trace: Trace) -> None:
        if self.in_hand > self._requests_max:
            await send.refuse(ErrorCode.OVERLOADED)
        elif len(scope["raw_path"]) > _PATH_BYTES_MAX:
            await send.refuse(ErrorCode.NOT_FOUND)
        elif sum(name == b"host" for name, _ in scope["headers"]) > 1:
            # RFC 9112, 3.2: whoever stands in front may have taken the other one.
            await send.refuse(ErrorCode.INVALID_VALUE, param="host")
        else:
            try:
                await self._app(scope, receive, send)
            except Exception:  # noqa: BLE001 - the boundary of a request: the process goes on, the client hears of it
                _log.exception("a request failed outside its handler")
                trace.outcome = "broken"
                if not trace.status:
                    await send.refuse(ErrorCode.INTERNAL_ERROR)

    def _record(self, scope: HTTPScope, trace: Trace, span: tracing.Span) -> None:
        seconds = time.perf_counter() - trace.began
        route = str(scope.get("path_template", "unmatched"))
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = trace.status or _CLOSED_BY_CLIENT
        _requests(method, route, status).inc()
        _seconds(route).observe(seconds)
        self._log.write(trace, method=method, route=route, status=status, seconds=seconds)
        span.rename(route)
        span.note("http.request.method", method)
        span.note("http.route", route)
        span.note("http.response.status_code", status)
        span.note("odea.request_id", trace.request_id)
        if trace.outcome or status >= 500:
            span.fail(trace.code or trace.outcome or str(status))


class _Sender:
    """The server's `send`, which notes the status and adds the headers that every answer has."""

    def __init__(self, send: Send, trace: Trace, protection: Headers) -> None:
        self._send = send
        self._trace = trace
        self._protection = protection

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._trace.status = message["status"]
            message["headers"] = [
                *message["headers"],
                *self._protection,
                (b"x-request-id", self._trace.request_id.encode()),
            ]
        await self._send(message)

    async def refuse(self, code: ErrorCode, *, param: str | None = None) -> None:
        """Answer with a failure."""
        self._trace.code = code
        await self._answer(answer(problem(code, param=param), self._trace.request_id))

    async def _answer(self, built: Answer) -> None:
        headers = [(name.encode(), value.encode()) for name, value in built.headers]
        await self({"type": "http.response.start", "status": built.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": built.body, "more_body": False})


def _protection(settings: GatewaySettings) -> Headers:
    if not settings.strict_transport_s:
        return _PROTECTION
    return (*_PROTECTION, (b"strict-transport-security", f"max-age={settings.strict_transport_s}".encode()))


def _place(scope: HTTPScope) -> tracing.Place:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), "")


def _request_id(scope: HTTPScope) -> str:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        text = given[0].decode("ascii")
        # Whoever sends a key as the id of a request must not find it in our logs.
        if redact_text(text) == text:
            return text
    return new_id("req")
