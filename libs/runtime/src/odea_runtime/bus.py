"""The bus: one connection to NATS a process, and typed calls over it.

A call ends in a reply or in one of the named errors below, never later than its timeout. Answering is in `serving`.
"""

import asyncio
import math
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
import nats.errors
import structlog
from fast_depends.msgspec import MsgSpecSerializer
from faststream.nats import NatsBroker, NatsRouter
from faststream.nats.security import NatsNKey, NatsSecurity
from faststream.nats.subscriber.usecases import CoreSubscriber
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from prometheus_client import Counter, Histogram

from odea_contracts.base import Endpoint, Message
from odea_contracts.subjects import inbox_prefix, streams_prefix
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID
from odea_runtime import tracing
from odea_runtime.counting import by_labels
from odea_runtime.settings import Settings

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")

_RECONNECT_WAIT_S: Final = 0.25
_PING_S: Final = 2
_CLOSE_S: Final = 2.0
_FLUSH_S: Final = 2
_SAY_EVERY_S: Final = 30.0
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Of histograms of what crosses the bus."""

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises; the last two come through msgspec for bytes that are no UTF-8 and for nesting without end."""

_CALLS = Counter("odea_bus_calls_total", "Requests sent, by how they ended", ["subject", "outcome"])
_CALL_SECONDS = Histogram("odea_bus_call_seconds", "From request to reply", ["subject"], buckets=BUCKETS_S)
_called: Final = by_labels(_CALLS)
_call_seconds: Final = by_labels(_CALL_SECONDS)
_FAULTS = Counter("odea_bus_connection_faults_total", "Lost connections, slow consumers and other trouble", ["kind"])


class BusError(Exception):
    """A call that brought no reply."""

    outcome = "error"


class DisconnectedError(BusError):
    """There is no connection to NATS; the request was not sent."""

    outcome = "disconnected"


class NoRespondersError(BusError):
    """Nobody serves the subject; the request was certainly not handled."""

    outcome = "no_responders"


class CallTimeoutError(BusError):
    """No reply in time; the request may or may not have been handled."""

    outcome = "timeout"


class UnavailableError(Exception):
    """What a handler stands on is not there. The endpoint answers with its service's own code for that."""


class BadReplyError(BusError):
    """The reply is not what the contract says."""

    outcome = "bad_reply"


class Bus:
    """One connection to NATS: call, publish and, through routers, serve.

    Args:
        settings: `nats_*`, `call_timeout_s`, `drain_s`.
        service: the user of the bus; its inboxes and streams lie below prefixes with this name.
        routers: what this process serves.
    """

    def __init__(self, settings: Settings, service: str, *routers: NatsRouter) -> None:
        self._timeout_s = settings.call_timeout_s
        self._lost: list[Callable[[], None]] = []
        self._back: list[Callable[[], None]] = []
        self.streams_prefix: Final = streams_prefix(service)
        self.broker: Final = NatsBroker(
            settings.nats_url.get_secret_value().split(","),
            name=f"odea-{service}",
            serializer=MsgSpecSerializer(),
            # Handlers take the decoded body and nothing else; injection would cost half the time of a message.
            apply_types=False,
            inbox_prefix=inbox_prefix(service),
            security=_security(settings),
            connect_timeout=2,
            allow_reconnect=True,
            reconnect_time_wait=cast("int", _RECONNECT_WAIT_S),
            max_reconnect_attempts=-1,
            ping_interval=_PING_S,
            max_outstanding_pings=2,
            graceful_timeout=settings.drain_s,
            flush_timeout=_FLUSH_S,
            disconnected_cb=self._on_lost,
            reconnected_cb=self._on_back,
            error_cb=self._on_error,
            routers=routers,
            logger=None,
        )
        self._log = structlog.get_logger()
        self._serving = False
        self._refused = ""
        self._trouble = _Seldom()
        self._stopping = False

    @property
    def client(self) -> Client:
        """The connection itself, for streams and JetStream. It is there once `start` has returned."""
        return self.broker.connection

    @property
    def connected(self) -> bool:
        """Whether a message would leave now."""
        return bool(self.broker.config.connection_state) and self.client.is_connected

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back whenever the connection breaks: messages may have been missed from now on."""
        self._lost.append(callback)

    def on_back(self, callback: Callable[[], None]) -> None:
        """Call back whenever a broken connection stands again."""
        self._back.append(callback)

    async def start(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """Connect, waiting as long as it takes, run `before`, and begin to serve."""
        await self.broker.connect()
        if before:
            await before()
        await self.broker.start()
        with suppress(nats.errors.Error):
            # Whoever asks after this finds us.
            await self.round_trip()
        self._serving = True

    async def round_trip(self) -> None:
        """Return when the server has read all that was sent before.

        Raises:
            nats.errors.Error: there is no connection, or no answer in time.
        """
        # Twice: nats-py writes the ping of the first past what still waits to be written, subscriptions among it.
        for _ in range(2):
            await self._ping()

    async def _ping(self) -> None:
        # As nats-py's `flush`, but whoever stops waiting leaves the pong's future alive: a late pong that met a
        # cancelled one would end nats-py's reading, and the connection would be deaf until it is found stale.
        if not self._reading:
            raise nats.errors.ConnectionClosedError
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self.client._send_ping(pong)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        try:
            async with asyncio.timeout(_FLUSH_S):
                await asyncio.shield(pong)
        except TimeoutError:
            raise nats.errors.FlushTimeoutError from None

    @property
    def _reading(self) -> bool:
        reading = self.client._reading_task  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return reading is not None and not reading.done()

    async def stop_serving(self) -> None:
        """Take no new messages. Requests that have arrived are still handed over; the connection stays for answers."""
        for subscriber in self.broker.subscribers:
            if isinstance(subscriber, CoreSubscriber) and isinstance(subscriber.subscription, Subscription):
                arrived, subscriber.subscription = subscriber.subscription, None
                with suppress(nats.errors.Error, TimeoutError):
                    # Draining would ask for the round trip before the server has read that we want no more, and drop
                    # what comes in between.
                    await self.client._send_unsubscribe(arrived._id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                    await self.round_trip()
                    await asyncio.wait_for(arrived.drain(), _CLOSE_S)
            await subscriber.stop()

    async def stop(self) -> None:
        """Stop serving and close the connection, whatever state it is in."""
        self._stopping = True
        await self.stop_serving()
        with suppress(nats.errors.Error, OSError, TimeoutError):
            if self.connected:
                await self.broker.stop()
            elif self.broker.config.connection_state:
                # A broken connection can't be drained, which is all that the broker would do.
                await self.client.close()

    async def check(self) -> str | None:
        """For `/readyz`."""
        if not self.connected or not self._reading:
            return "not connected to NATS"
        if not self._serving:
            return "not serving yet"
        return self._refused or None

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
            message = await self.client.request(
                endpoint.subject, msgspec.json.encode(request), timeout=timeout_s, headers=headers
            )
        except nats.errors.NoRespondersError:
            raise NoRespondersError(endpoint.subject) from None
        except (TimeoutError, nats.errors.TimeoutError):
            raise CallTimeoutError(endpoint.subject) from None
        except nats.errors.Error as error:
            raise DisconnectedError(endpoint.subject) from error
        try:
            return cast("ReplyT", _reply_decoder(endpoint.reply).decode(message.data))
        except UNREADABLE as error:
            raise BadReplyError(endpoint.subject) from error

    async def publish(self, subject: str, message: Message, *, headers: dict[str, str] | None = None) -> None:
        """Send `message` to whoever listens now. It is lost if nobody does.

        Raises:
            DisconnectedError: not sent.
        """
        if not self.connected:
            raise DisconnectedError(subject)
        await self.client.publish(subject, msgspec.json.encode(message), headers=headers)

    async def _on_lost(self) -> None:
        if self._stopping:
            return
        _FAULTS.labels("disconnected").inc()
        self._log.warning("lost the connection to NATS")
        for callback in self._lost:
            callback()

    async def _on_back(self) -> None:
        self._refused = ""
        self._log.info("connected to NATS again")
        for callback in self._back:
            callback()

    async def _on_error(self, error: Exception) -> None:
        kind = _kind_of(error)
        _FAULTS.labels(kind).inc()
        if kind == "subscription_refused":
            # What should be heard will not be: better out of service than deaf.
            self._refused = "NATS refused a subscription"
        if (unsaid := self._trouble.unsaid(f"{kind} {type(error).__name__}")) is not None:
            self._log.warning("trouble on the bus", kind=kind, error=repr(error), unsaid=unsaid)


class _Seldom:
    """Keeps trouble that repeats itself from filling the log: each kind is said at once, then every so often."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}

    def unsaid(self, kind: str) -> int | None:
        """How often it happened without a word since it was said last; nothing if it is not to be said now."""
        at, unsaid = self._said.get(kind, (-math.inf, 0))
        now = time.monotonic()
        if now - at < _SAY_EVERY_S:
            self._said[kind] = (at, unsaid + 1)
            return None
        self._said[kind] = (now, 0)
        return unsaid


def _kind_of(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, nats.errors.SlowConsumerError):
        return "slow_consumer"
    if "permissions violation" in text:
        return "subscription_refused" if "subscription" in text else "publication_refused"
    return "not_let_in" if "authorization violation" in text else "other"


def _security(settings: Settings) -> NatsSecurity | None:
    ca, own = settings.nats_tls_ca_file, settings.nats_tls_cert_file
    encrypted = ca or own or "tls://" in settings.nats_url.get_secret_value()
    context = ssl.create_default_context(cafile=ca) if encrypted else None
    if context and own:
        context.load_cert_chain(own, settings.nats_tls_key_file)
    # First the handshake, then the first word: otherwise it is the word of an unknown server that decides whether there
    # is a handshake at all.
    if settings.nats_seed:
        seed = settings.nats_seed.get_secret_value()
        return NatsNKey.from_seed(seed, ssl_context=context, tls_handshake_first=context is not None)
    return NatsSecurity(ssl_context=context, tls_handshake_first=True) if context else None


@lru_cache(maxsize=256)
def _reply_decoder(reply: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(reply)
