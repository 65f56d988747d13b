"""Endpoints from the answering side: typed messages in, typed answers out.

An endpoint that is served always answers: with its handler's outcome, or with a `Failure` when the body is bad, the
handler fails or too much is in hand.
"""

import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

import msgspec
import nats.errors
import structlog
from faststream.message import StreamMessage
from faststream.middlewares import BaseMiddleware
from faststream.nats import NatsRouter
from nats.aio.msg import Msg
from prometheus_client import Counter, Histogram

from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.subjects import is_reply_address
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID
from odea_runtime.bus import BUCKETS_S, UNREADABLE, UnavailableError
from odea_runtime.tasks import Tasks

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")

_DEADLINE: Final = re.compile(r"[0-9]{1,16}")

_HANDLED = Counter("odea_bus_handled_total", "Requests answered, by outcome", ["subject", "outcome"])
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

    FastStream handles one message after the other; handing each over to a task keeps its speed (a third of it is left
    with `max_workers`) and lets requests wait together, which group commit needs.

    Args:
        router: of the process's bus.
        tasks: bounds what is handled at the same time.
        endpoint: what is served.
        handler: turns a request into a reply; its docstring describes the endpoint.
        unavailable: the code of the `Failure` when the handler raises `UnavailableError`.
    """

    async def receive(body: RequestT) -> None:
        raw = current_message()
        if not tasks.start(_answer(endpoint.subject, handler, body, raw, unavailable)):
            _HANDLED.labels(endpoint.subject, "overloaded").inc()
            await respond(raw, failure(ErrorCode.OVERLOADED))

    decoder = msgspec.json.Decoder(endpoint.request)

    async def decode(message: StreamMessage[Msg]) -> RequestT:
        return decoder.decode(message.body)

    router.subscriber(
        endpoint.subject,
        queue=endpoint.queue,
        decoder=decode,
        no_reply=True,
        include_in_schema=False,
    )(receive)


def request_router() -> NatsRouter:
    """A router for endpoints: what can't be read is answered with a `Failure` instead of silence."""
    return NatsRouter(middlewares=[_AnswerBadBodies])


_message: ContextVar[Msg] = ContextVar("message")
"""The message that FastStream is handing over."""


def current_message() -> Msg:
    """The message that is being handed over, for what the decoded body does not say."""
    return _message.get()


class _AnswerBadBodies(BaseMiddleware[Any, Any]):
    """FastStream drops a message whose body it can't decode; its sender would wait for the whole timeout."""

    async def consume_scope(
        self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]
    ) -> Any:
        raw = cast("Msg", msg.raw_message)
        _message.set(raw)
        try:
            return await call_next(msg)
        except UNREADABLE as error:
            _HANDLED.labels(raw.subject, "bad_body").inc()
            await respond(raw, bad_body(error))
            return None


def bad_body(error: Exception) -> Failure:
    """The `Failure` for a body that does not fit, naming the field where msgspec does."""
    text = str(error)
    where = text.rpartition(" - at `$")[2].rstrip("`").lstrip(".") if " - at `$" in text else None
    return failure(ErrorCode.INVALID_VALUE, f"The message is not valid: {text[:200]}", param=where or None)


async def _answer(
    subject: str, handler: Callable[[RequestT], Awaitable[ReplyT]], body: RequestT, raw: Msg, unavailable: ErrorCode
) -> None:
    headers = raw.headers or {}
    if too_late(raw):
        return
    structlog.contextvars.bind_contextvars(request_id=headers.get(HEADER_REQUEST_ID))
    began = time.perf_counter()
    try:
        reply = cast("Message", await handler(body))
        outcome = _outcome(reply)
    except UnavailableError:
        reply, outcome = failure(unavailable), unavailable.value
    except Exception:  # noqa: BLE001 - the boundary of the process: silence would cost the caller its whole timeout
        structlog.get_logger().exception("handler failed", subject=subject)
        reply, outcome = failure(ErrorCode.INTERNAL_ERROR), ErrorCode.INTERNAL_ERROR.value
    _HANDLED.labels(subject, outcome).inc()
    _HANDLE_SECONDS.labels(subject).observe(time.perf_counter() - began)
    await respond(raw, reply)


def _outcome(reply: Message) -> str:
    return reply.code if isinstance(reply, Failure) else str(type(reply).__struct_config__.tag)


def too_late(raw: Msg) -> bool:
    """Whether the sender has given up: an answer would reach nobody, and the work would be for nothing."""
    left_s = time_left_s(raw)
    if left_s is None or left_s >= 0:
        return False
    _HANDLED.labels(raw.subject, "too_late").inc()
    return True


def time_left_s(raw: Msg) -> float | None:
    """How long the sender still waits; `None` if it did not say until when."""
    deadline_ms = (raw.headers or {}).get(HEADER_DEADLINE_MS, "")
    return int(deadline_ms) / 1000 - time.time() if _DEADLINE.fullmatch(deadline_ms) else None


async def respond(raw: Msg, reply: Message) -> None:
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
