"""Answering a subject with audio streams."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog
from faststream.nats import NatsRouter
from nats.aio.msg import Msg

from odea_contracts.base import Message
from odea_contracts.bundles import HEADER_BUNDLES_TO
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.subjects import is_reply_address, is_same_user
from odea_runtime import tracing
from odea_runtime.bus import UNREADABLE
from odea_runtime.serving import age_s, bad_body, listen, request_id_of, respond, time_left_s, too_late
from odea_runtime.streams.base import Receiver
from odea_runtime.tasks import Tasks

RequestT = TypeVar("RequestT", bound=Message)


def serve_streams(
    router: NatsRouter,
    tasks: Tasks,
    *,
    subject: str,
    queue: str,
    request: type[RequestT],
    handler: Callable[[RequestT, Receiver], Awaitable[None]],
) -> None:
    """Give every request on `subject` to `handler`, with whoever receives its stream; many at a time.

    A request that `tasks` has no room for is refused as overloaded, one whose deadline has passed is dropped. The
    handler ends its stream itself, whatever happens.
    """
    decoder = msgspec.json.Decoder(request)

    async def receive(msg: Msg) -> None:
        try:
            body = decoder.decode(msg.data)
        except UNREADABLE as error:
            await respond(msg, bad_body(error))
            return
        if not is_reply_address(msg.reply):
            structlog.get_logger().warning("a request without an inbox for its stream", subject=subject)
        elif not tasks.start(_handle(handler, body, msg)):
            await respond(msg, failure(ErrorCode.OVERLOADED))

    listen(router, subject, queue, receive)


async def _handle(handler: Callable[[RequestT, Receiver], Awaitable[None]], body: RequestT, raw: Msg) -> None:
    if too_late(raw):
        return
    structlog.contextvars.bind_contextvars(request_id=request_id_of(raw))
    receiver = Receiver(
        inbox=raw.reply,
        bundles_to=_bundles_to(raw),
        waits_s=time_left_s(raw),
        waited_s=age_s(raw),
    )
    with tracing.serving(raw.subject, raw.headers):
        await handler(body, receiver)


def _bundles_to(raw: Msg) -> str:
    """Where its frames may go together with others': a place of whoever asks, and of nobody else."""
    place = (raw.headers or {}).get(HEADER_BUNDLES_TO, "")
    return place if is_reply_address(place) and is_same_user(place, raw.reply) else ""
