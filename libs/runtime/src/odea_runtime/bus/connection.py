"""One connection to NATS: made again whenever it breaks, watched, and closed in time whatever state it is in.

nats-py's own waits are not used where they could end its reading: it cancels the future of a pong that it has waited
for in vain, and a late pong that meets a cancelled one leaves the connection deaf until it is found stale.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import nats.errors
import structlog
from fast_depends.msgspec import MsgSpecSerializer
from faststream.nats import NatsBroker, NatsRouter
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from prometheus_client import Counter

from odea_contracts.subjects import inbox_prefix
from odea_runtime.bus.login import security
from odea_runtime.settings import Settings

_RECONNECT_WAIT_S: Final = 0.25
_PING_S: Final = 2
_CLOSE_S: Final = 2.0
_FLUSH_S: Final = 2
_SMALL_BYTES: Final = 4096
_BUFFER_BYTES: Final = 2 * 1024 * 1024
"""What may wait to be written. Whoever sends more waits for room, for at most `_FLUSH_S`."""
_SAY_EVERY_S: Final = 30.0

_FAULTS = Counter("odea_bus_connection_faults_total", "Lost connections, slow consumers and other trouble", ["kind"])


class Connection:
    """One connection to NATS, as `settings` say.

    Args:
        settings: `nats_*`, `drain_s`.
        service: the user of the bus; its inboxes lie below a prefix with this name.
        routers: what this process serves.
    """

    def __init__(self, settings: Settings, service: str, *routers: NatsRouter) -> None:
        self.broker: Final = NatsBroker(
            settings.nats_url.get_secret_value().split(","),
            name=f"odea-{service}",
            serializer=MsgSpecSerializer(),
            # Handlers take the decoded body and nothing else; injection would cost half the time of a message.
            apply_types=False,
            inbox_prefix=inbox_prefix(service),
            security=security(settings),
            connect_timeout=2,
            allow_reconnect=True,
            reconnect_time_wait=cast("int", _RECONNECT_WAIT_S),
            max_reconnect_attempts=-1,
            ping_interval=_PING_S,
            max_outstanding_pings=2,
            pending_size=_BUFFER_BYTES,
            graceful_timeout=settings.drain_s,
            flush_timeout=_FLUSH_S,
            disconnected_cb=self._on_lost,
            reconnected_cb=self._on_back,
            error_cb=self._on_error,
            routers=routers,
            logger=None,
        )
        self._log = structlog.get_logger()
        self._lost: list[Callable[[], None]] = []
        self._back: list[Callable[[], None]] = []
        self._trouble = _Seldom()
        self._stopping = False
        self.refused = ""
        """What NATS does not let this process hear; better out of service than deaf."""

    @property
    def client(self) -> Client:
        """The connection itself, for streams and JetStream. It is there once `connect` has returned."""
        return self.broker.connection

    @property
    def connected(self) -> bool:
        """Whether a message would leave now."""
        return bool(self.broker.config.connection_state) and self.client.is_connected

    @property
    def reading(self) -> bool:
        """Whether what the server sends is read."""
        reading = self.client._reading_task  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return reading is not None and not reading.done()

    @property
    def flows(self) -> bool:
        """Whether a small message would leave now, or soon."""
        return self.connected and self.has_room(_SMALL_BYTES)

    def has_room(self, size_bytes: int) -> bool:
        """Whether a message of this size would be buffered at once. The server takes nothing, or too slowly, if not."""
        return self.client.pending_data_size + size_bytes < _BUFFER_BYTES

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back whenever the connection breaks: messages may have been missed from now on."""
        self._lost.append(callback)

    def on_back(self, callback: Callable[[], None]) -> None:
        """Call back whenever a broken connection stands again."""
        self._back.append(callback)

    def note_trouble(self, error: Exception) -> None:
        """Count what went wrong on the connection, and say it unless the same was said just before."""
        kind = _kind_of(error)
        _FAULTS.labels(kind).inc()
        if (unsaid := self._trouble.unsaid(f"{kind} {type(error).__name__}")) is not None:
            self._log.warning("trouble on the bus", kind=kind, error=repr(error), unsaid=unsaid)

    async def round_trip(self) -> None:
        """Return when the server has read all that was sent before.

        Raises:
            nats.errors.Error: there is no connection, or no answer in time.
        """
        # Twice: nats-py writes the ping of the first past what still waits to be written, subscriptions among it.
        for _ in range(2):
            await self._ping()

    async def leave(self, subscription: Subscription) -> None:
        """Want no more of `subscription`, and return when all that has come of it was handed over, or time is up."""
        with suppress(nats.errors.Error, TimeoutError):
            # The server must have read that we want no more before it is asked for a round trip: what comes in between
            # would be dropped. nats-py's own draining asks the other way about, and leaves a cancelled pong behind.
            await self.client._send_unsubscribe(subscription._id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            await self.round_trip()
            async with asyncio.timeout(_CLOSE_S):
                await subscription._pending_queue.join()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        with suppress(nats.errors.Error):
            await subscription.unsubscribe()

    async def close(self) -> None:
        """Let go of the connection once the server has read what was sent, or takes too long for that."""
        self._stopping = True
        if not self.broker.config.connection_state:
            return
        with suppress(nats.errors.Error):
            await self.round_trip()
        # Apart from us: nats-py waits for a server that takes nothing, without a limit, and swallows cancellations.
        closing = asyncio.create_task(self.client.close())
        await asyncio.wait({closing}, timeout=_CLOSE_S)
        closing.cancel()

    async def _ping(self) -> None:
        # As nats-py's `flush`, but whoever stops waiting leaves the pong's future alive.
        if not self.reading:
            raise nats.errors.ConnectionClosedError
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self.client._send_ping(pong)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        try:
            async with asyncio.timeout(_FLUSH_S):
                await asyncio.shield(pong)
        except TimeoutError:
            raise nats.errors.FlushTimeoutError from None

    async def _on_lost(self) -> None:
        if self._stopping:
            return
        _FAULTS.labels("disconnected").inc()
        self._log.warning("lost the connection to NATS")
        for callback in self._lost:
            callback()

    async def _on_back(self) -> None:
        self.refused = ""
        self._log.info("connected to NATS again")
        for callback in self._back:
            callback()

    async def _on_error(self, error: Exception) -> None:
        if _kind_of(error) == "subscription_refused":
            self.refused = "NATS refused a subscription"
        self.note_trouble(error)


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
