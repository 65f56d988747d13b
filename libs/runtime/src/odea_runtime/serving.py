"""Endpoints from the answering side: typed messages in, typed answers out.

An endpoint that is served always answers: with its handler's outcome, or with a `Failure` when the body is bad, the
handler fails or too much is in hand.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar, cast

import msgspec
import nats.errors
import structlog
from faststream.nats import NatsRouter
from nats.aio.msg import Msg
from prometheus_client import Counter, Histogram

from odea_contracts.base import REQUEST_ID, Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.subjects import is_reply_address
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID, HEADER_SENT_MS
from odea_runtime import tracing
from odea_runtime.bundles import Asked, unbundled
from odea_runtime.bus import BUCKETS_S, UNREADABLE, UnavailableError
from odea_runtime.counting import by_labels
from odea_runtime.tasks import Tasks

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")

_TIME_MS: Final = re.compile(r"[0-9]{1,16}")
_REQUEST_ID: Final = re.compile(REQUEST_ID)

_HANDLED = Counter("odea_bus_handled_total", "Requests answered, by outcome", ["subject", "outcome"])
_handled: Final = by_labels(_HANDLED)
_HANDLE_SECONDS = Histogram("odea_bus_handle_seconds", "From receipt to answer", ["subject"], buckets=BUCKETS_S)


def serve(
    router: NatsRouter,
    tasks: Tasks,
    endpoint: Endpoint[RequestT, ReplyT],
    handler: Callable[[RequestT], Awaitable[ReplyT]],
    *,
    unavailable: ErrorCode = ErrorCode.INTERNAL_ERROR,
) -> None:
    """Answer `endpoint` with `handler`, many requests at a time, bounded by `tasks`.

    Each is handed over to a task, which lets requests wait together, as group commit needs.

    Args:
        router: of the process's bus.
        tasks: bounds what is handled at the same time.
        endpoint: what is served.
        handler: turns a request into a reply; its docstring describes the endpoint.
        unavailable: the code of the `Failure` when the handler raises `UnavailableError`.
    """
    answer = _Answering(endpoint.subject, handler, unavailable)
    decoder = msgspec.json.Decoder(endpoint.request)

    def take(asked: Asked) -> Failure | None:
        """Have it handled; why not, if it can't be."""
        try:
            body = decoder.decode(asked.data)
        except UNREADABLE as error:
            _handled(endpoint.subject, "bad_body").inc()
            return bad_body(error)
        if tasks.start(answer(body, asked)):
            return None
        _handled(endpoint.subject, "overloaded").inc()
        return failure(ErrorCode.OVERLOADED)

    async def receive(msg: Msg) -> None:
        try:
            together = unbundled(msg)
        except UNREADABLE as error:
            _handled(endpoint.subject, "bad_body").inc()
            await respond(msg, bad_body(error))
            return
        refused = [(asked, why) for asked in together if (why := take(asked))]
        if refused:
            await asyncio.gather(*(respond(asked, why) for asked, why in refused))

    listen(router, endpoint.subject, endpoint.queue, receive)


class Receive(Protocol):
    """Takes a message as it comes off the connection."""

    async def __call__(self, msg: Msg) -> None:
        """Handle it, or hand it over: the next one waits until this returns."""
        ...


def listen(router: NatsRouter, subject: str, queue: str, receive: Receive) -> None:
    """Give `receive` every message on `subject` as it comes off the connection, one after the other.

    FastStream subscribes, reconnects, drains and stops. What else it does for each message (scopes, parsers, filters,
    middlewares) costs more than all of ours together and is left out; see ADR 0003.
    """
    subscriber = router.subscriber(subject, queue=queue, no_reply=True, include_in_schema=False)
    # Without a handler FastStream would not subscribe.
    subscriber(_not_called)
    subscriber.consume = receive


async def _not_called() -> None:
    raise AssertionError("messages are received without FastStream's pipeline")


def bad_body(error: Exception) -> Failure:
    """The `Failure` for a body that does not fit, naming the field where msgspec does."""
    text = str(error)
    where = text.rpartition(" - at `$")[2].rstrip("`").lstrip(".") if " - at `$" in text else None
    return failure(ErrorCode.INVALID_VALUE, f"The message is not valid: {text[:200]}", param=where or None)


class _Answering(Generic[RequestT, ReplyT]):
    """Handles the messages of one endpoint and answers them."""

    def __init__(self, subject: str, handler: Callable[[RequestT], Awaitable[ReplyT]], unavailable: ErrorCode) -> None:
        self._subject = subject
        self._handler = handler
        self._unavailable = unavailable
        self._seconds = _HANDLE_SECONDS.labels(subject)

    async def __call__(self, body: RequestT, raw: Asked) -> None:
        if too_late(raw):
            return
        structlog.contextvars.bind_contextvars(request_id=request_id_of(raw))
        began = time.perf_counter()
        with tracing.serving(self._subject, raw.headers) as span:
            reply, outcome = await self._reply(body)
            span.note("odea.outcome", outcome)
        _handled(self._subject, outcome).inc()
        self._seconds.observe(time.perf_counter() - began)
        await respond(raw, reply)

    async def _reply(self, body: RequestT) -> tuple[Message, str]:
        """What is answered, and its name."""
        try:
            reply = cast("Message", await self._handler(body))
            return reply, _outcome(reply)
        except UnavailableError:
            return failure(self._unavailable), self._unavailable.value
        except Exception:  # noqa: BLE001 - the boundary of the process: silence would cost the caller its whole timeout
            structlog.get_logger().exception("handler failed", subject=self._subject)
            return failure(ErrorCode.INTERNAL_ERROR), ErrorCode.INTERNAL_ERROR.value


def _outcome(reply: Message) -> str:
    return reply.code if isinstance(reply, Failure) else str(type(reply).__struct_config__.tag)


def too_late(raw: Asked) -> bool:
    """Whether the sender has given up: an answer would reach nobody, and the work would be for nothing."""
    left_s = time_left_s(raw)
    if left_s is None or left_s >= 0:
        return False
    _handled(raw.subject, "too_late").inc()
    return True


def time_left_s(raw: Asked) -> float | None:
    """How long the sender still waits; `None` if it did not say until when."""
    deadline_s = _time_in(raw, HEADER_DEADLINE_MS)
    return None if deadline_s is None else deadline_s - time.time()


def request_id_of(raw: Asked) -> str | None:
    """What joins its logs, and goes along with what is asked for it; `None` if it says nothing that could."""
    given = (raw.headers or {}).get(HEADER_REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else None


def age_s(raw: Asked) -> float | None:
    """How long ago it was sent, by the clocks of both hosts; `None` if it does not say when."""
    sent_s = _time_in(raw, HEADER_SENT_MS)
    return None if sent_s is None else time.time() - sent_s


def _time_in(raw: Asked, header: str) -> float | None:
    time_ms = (raw.headers or {}).get(header, "")
    return int(time_ms) / 1000 if _TIME_MS.fullmatch(time_ms) else None


async def respond(raw: Asked, reply: Message) -> None:
    """Send `reply` to whoever asked, if anybody can still be reached.

    Only to where replies go: a request may name any subject for its answer, and would have us speak there with our
    rights.
    """
    if is_reply_address(raw.reply):
        try:
            await raw.respond(msgspec.json.encode(reply))
        except nats.errors.MaxPayloadError:
            structlog.get_logger().error("a reply is too large", subject=raw.subject, reply=type(reply).__name__)
            await respond(raw, failure(ErrorCode.INTERNAL_ERROR))
        except nats.errors.Error as error:
            structlog.get_logger().warning("a reply could not be sent", subject=raw.subject, error=repr(error))
