"""Following events of other services: at least once, with growing pauses, and a place for those that never succeed.

A handler must be idempotent. An event is acknowledged after its handler has returned; one that keeps failing is written
to `odea.v1.<service>.evt.dead_lettered` in the same stream, with the reason in its headers, and the next gets its turn.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import msgspec
import structlog
from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.middlewares import BaseMiddleware
from faststream.nats import JStream, NatsMessage, NatsRouter, PullSub
from nats.aio.msg import Msg
from prometheus_client import Counter

from odea_contracts.base import Message
from odea_contracts.subjects import STREAM_EVENTS, dead_letters, inbox_prefix
from odea_runtime.bus import Bus

EventT = TypeVar("EventT", bound=Message)

_BATCH: Final = 10
_PULL_S: Final = 1.0
"""How long one request for events stands. nats-py can hold what came first until the batch is full or this is over."""
_PAUSE_S_MAX: Final = 60.0

_FOLLOWED = Counter(
    "odea_events_followed_total", "Events of other services, by what became of them", ["durable", "outcome"]
)


class Follower:
    """Follows subjects of the events stream with durable consumers.

    Args:
        service: the user of the bus that follows, and whose dead letters they become.
        deliveries_max: how often an event is tried.
    """

    def __init__(self, service: str, *, deliveries_max: int) -> None:
        self._service = service
        self._deliveries_max = deliveries_max
        self.router: Final = NatsRouter()

    def follow(
        self,
        bus: Callable[[], Bus],
        durable: str,
        subject: str,
        event: type[EventT],
        handler: Callable[[EventT], Awaitable[None]],
    ) -> None:
        """Call `handler` with every event on `subject`, from where the durable consumer stands.

        The consumer must be there before the bus starts to serve; see `jetstream.until_applied`.
        """
        decoder = msgspec.json.Decoder(event)
        follower = self

        class Deliver(BaseMiddleware[Any, Any]):
            async def consume_scope(
                self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]
            ) -> Any:
                message = cast("NatsMessage", msg)
                try:
                    await call_next(msg)
                except Exception as error:  # noqa: BLE001 - whatever failed, the event is tried again or set aside
                    await follower._failed(bus(), durable, message.raw_message, error)
                else:
                    await message.ack()
                    _FOLLOWED.labels(durable, "done").inc()

        async def receive(body: EventT) -> None:
            await handler(body)

        async def decode(message: StreamMessage[Msg]) -> EventT:
            return decoder.decode(message.body)

        router = NatsRouter(middlewares=[Deliver])
        router.subscriber(
            subject,
            stream=JStream(STREAM_EVENTS, declare=False),
            durable=durable,
            inbox_prefix=f"{inbox_prefix(self._service)}.".encode(),
            pull_sub=PullSub(batch_size=_BATCH, timeout=_PULL_S),
            ack_policy=AckPolicy.MANUAL,
            decoder=decode,
            no_reply=True,
            include_in_schema=False,
        )(receive)
        self.router.include_router(router)

    async def _failed(self, bus: Bus, durable: str, raw: Msg, error: Exception) -> None:
        log = structlog.get_logger().bind(durable=durable, subject=raw.subject)
        deliveries = raw.metadata.num_delivered or 1
        if deliveries < self._deliveries_max:
            log.warning("an event failed and is tried again", error=repr(error), deliveries=deliveries)
            _FOLLOWED.labels(durable, "failed").inc()
            await raw.nak(delay=min(_PAUSE_S_MAX, 0.1 * 2**deliveries))
            return
        log.error("an event went to the dead letters", error=repr(error))
        _FOLLOWED.labels(durable, "dead_lettered").inc()
        headers = {"Odea-Durable": durable, "Odea-Subject": raw.subject, "Odea-Error": type(error).__name__}
        await bus.client.jetstream().publish(dead_letters(self._service), raw.data, headers=headers)
        await raw.term()
