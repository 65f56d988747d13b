"""What a service does with its connection to the bus: it serves, asks and tells.

A call ends in a reply or in one of the named errors, never later than its timeout.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
import nats.errors
import structlog
from faststream.nats import NatsRouter
from faststream.nats.subscriber.usecases import CoreSubscriber
from nats.aio.subscription import Subscription
from prometheus_client import Counter, Histogram

from odea_contracts.base import Endpoint, Message
from odea_contracts.subjects import inbox_prefix, streams_prefix
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID
from odea_runtime import tracing
from odea_runtime.bus.bundles import Bundles
from odea_runtime.bus.connection import Connection
from odea_runtime.bus.errors import (
    UNREADABLE,
    BadReplyError,
    BusError,
    CallTimeoutError,
    DisconnectedError,
    NoRespondersError,
)
from odea_runtime.bus.replies import Replies
from odea_runtime.counting import by_labels
from odea_runtime.settings import Settings

T = TypeVar("T")
RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")

_HEADERS_BYTES: Final = 4096
"""More than the headers of a message are."""
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Of histograms of what crosses the bus."""

_CALLS = Counter("odea_bus_calls_total", "Requests sent, by how they ended", ["subject", "outcome"])
_CALL_SECONDS = Histogram("odea_bus_call_seconds", "From request to reply", ["subject"], buckets=BUCKETS_S)
_called: Final = by_labels(_CALLS)
_call_seconds: Final = by_labels(_CALL_SECONDS)


class Bus(Connection):
    """One connection to NATS: call, publish and, through routers, serve.

    Args:
        settings: `nats_*`, `call_timeout_s`, `bundle_max`, `drain_s`.
        service: the user of the bus; its inboxes and streams lie below prefixes with this name.
        routers: what this process serves.
    """

    def __init__(self, settings: Settings, service: str, *routers: NatsRouter) -> None:
        super().__init__(settings, service, *routers)
        self._timeout_s = settings.call_timeout_s
        self._bundle_max = settings.bundle_max
        self._serving = False
        self._service = service
        self._replies: Replies | None = None
        self._bundles: Bundles | None = None
        self.streams_prefix: Final = streams_prefix(service)

    async def start(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """Connect, waiting as long as it takes, run `before`, and begin to serve."""
        await self.broker.connect()
        inbox = inbox_prefix(self._service)
        self._replies = Replies(self.client, inbox)
        await self._replies.start()
        self._bundles = Bundles(
            self.client,
            inbox,
            bundle_max=self._bundle_max,
            has_room=self.has_room,
            note_trouble=self.note_trouble,
        )
        await self._bundles.start()
        if before:
            await before()
        await self.broker.start()
        with suppress(nats.errors.Error):
            # Whoever asks after this finds us.
            await self.round_trip()
        self._serving = True

    async def stop_serving(self) -> None:
        """Take no new messages. Requests that have arrived are still handed over; the connection stays for answers."""
        arrived: list[Subscription] = []
        for subscriber in self.broker.subscribers:
            if isinstance(subscriber, CoreSubscriber) and isinstance(subscriber.subscription, Subscription):
                arrived.append(subscriber.subscription)
                subscriber.subscription = None
        # All at once: a server that is silent is waited for as long as for one.
        await asyncio.gather(*map(self.leave, arrived))
        for subscriber in self.broker.subscribers:
            await subscriber.stop()

    async def stop(self) -> None:
        """Stop serving and close the connection, whatever state it is in."""
        await self.stop_serving()
        await self.close()

    async def check(self) -> str | None:
        """For `/readyz`."""
        if not self.connected or not self.reading:
            return "not connected to NATS"
        if not self._serving:
            return "not serving yet"
        return self.refused or None

    async def call(
        self,
        endpoint: Endpoint[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> ReplyT:
        """Send `request` and wait for its reply, at most `timeout_s` (by default the setting's).

        Raises:
            DisconnectedError: not sent.
            NoRespondersError: not handled.
            CallTimeoutError: perhaps handled.
            BadReplyError: handled, but the answer is not understood.
        """
        began = time.perf_counter()
        outcome = "ok"
        try:
            with tracing.calling(endpoint.subject):
                return await self._call(endpoint, request, timeout_s or self._timeout_s, request_id)
        except BusError as error:
            outcome = error.outcome
            raise
        finally:
            _called(endpoint.subject, outcome).inc()
            _call_seconds(endpoint.subject).observe(time.perf_counter() - began)

    async def _call(
        self, endpoint: Endpoint[RequestT, ReplyT], request: RequestT, timeout_s: float, request_id: str | None
    ) -> ReplyT:
        if not self.connected:
            raise DisconnectedError(endpoint.subject)
        headers = {HEADER_DEADLINE_MS: str(int((time.time() + timeout_s) * 1000)), **tracing.headers()}
        request_id = request_id or structlog.contextvars.get_contextvars().get("request_id")
        if request_id:
            headers[HEADER_REQUEST_ID] = request_id
        try:
            reply = await self._ask(endpoint.subject, msgspec.json.encode(request), headers, timeout_s)
        except nats.errors.NoRespondersError:
            raise NoRespondersError(endpoint.subject) from None
        except TimeoutError:
            raise CallTimeoutError(endpoint.subject) from None
        except nats.errors.Error as error:
            raise DisconnectedError(endpoint.subject) from error
        try:
            return cast("ReplyT", _reply_decoder(endpoint.reply).decode(reply))
        except UNREADABLE as error:
            raise BadReplyError(endpoint.subject) from error

    async def _ask(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> bytes:
        if self._replies is None or self._bundles is None:
            raise DisconnectedError(subject)
        until = time.monotonic() + timeout_s
        if (reply := await self._bundles.ask(subject, body, headers, timeout_s)) is not None:
            return reply
        if not self.connected:
            raise DisconnectedError(subject)
        left_s = max(0.0, until - time.monotonic())
        asking = self._replies.ask(subject, body, headers, left_s)
        message = await (asking if self.has_room(len(body) + _HEADERS_BYTES) else _within(left_s, asking))
        return message.data

    async def publish(self, subject: str, message: Message, *, headers: dict[str, str] | None = None) -> None:
        """Send `message` to whoever listens now. It is lost if nobody does.

        Raises:
            DisconnectedError: not sent.
            CallTimeoutError: perhaps sent; the connection takes nothing.
        """
        if not self.connected:
            raise DisconnectedError(subject)
        body = msgspec.json.encode(message)
        telling = self.client.publish(subject, body, headers=headers)
        if self.has_room(len(body) + _HEADERS_BYTES):
            await telling
            return
        try:
            await _within(self._timeout_s, telling)
        except TimeoutError:
            raise CallTimeoutError(subject) from None


async def _within(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Wait no longer than this for what has to wait for room in the connection's buffer.

    nats-py waits there apart from its own timeout, and swallows cancellations: it is left to itself.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_look_at)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


def _look_at(task: asyncio.Task[Any]) -> None:
    """So that a failure that nobody waits for any more is not reported as forgotten."""
    if not task.cancelled():
        task.exception()


@lru_cache(maxsize=256)
def _reply_decoder(reply: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(reply)
