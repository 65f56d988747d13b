"""The outbox: events written with the change that they tell of, then handed to JetStream, in order and at least once.

One replica relays at a time (an advisory lock decides), so events leave in the order in which they were written.
JetStream drops what it has seen, by `Nats-Msg-Id`, and consumers are idempotent, so a crash between hand-over and
deletion does no harm. Events are CloudEvents in binary mode (CloudEvents 1.0, NATS protocol binding).

An event that is larger than the bus takes would keep all behind it from leaving, for ever: it is set aside, in the
table `outbox_set_aside`, and can be put back when the bus takes it.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

import aiosql
import asyncpg
import nats.errors
import structlog
from prometheus_client import Counter, Gauge

from odea_contracts.subjects import STREAM_EVENTS
from odea_runtime.bus import Bus
from odea_runtime.postgres import Connection, Database, StorageUnavailableError
from odea_runtime.publishing import NoStreamError, NotStoredError, Outgoing, Publisher

BATCH_MAX: Final = 100
"""Small, since nothing else runs in the process while a batch is put on its way."""
_POLL_S: Final = 1.0
_ACK_S: Final = 2.0

_RELAYED = Counter("odea_outbox_relayed_total", "Events handed to JetStream")
_WAITING = Gauge("odea_outbox_waiting", "Events that have not been handed over")
_OLDEST = Gauge("odea_outbox_oldest_seconds", "Age of the oldest event that has not been handed over")
_SET_ASIDE = Gauge("odea_outbox_set_aside", "Events that are too large for the bus and wait for an operator")


class EventsUnavailableError(Exception):
    """JetStream could not be reached, or did not acknowledge in time. Events stay in the outbox."""


class Outbox:
    """Relays the outbox of one service for as long as it runs.

    Args:
        database: where the table `outbox` is.
        bus: where the events go.
    """

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._queries: Any = aiosql.from_str((files("odea_runtime") / "outbox.sql").read_text(), "asyncpg")
        self._wake = asyncio.Event()
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """An event has been committed; do not wait for the next look."""
        self._wake.set()

    async def run(self) -> None:
        """Relay until cancelled, through every outage of the database and of NATS."""
        while True:
            try:
                await self._lead()
            except (StorageUnavailableError, EventsUnavailableError) as error:
                self._log.warning("the outbox waits", error=repr(error))
            await asyncio.sleep(_POLL_S)

    async def _lead(self) -> None:
        async with self._database.connection() as connection:
            if not await self._queries.lead_relay(connection):
                return
            try:
                await self._relay_on(connection)
            except EventsUnavailableError:
                await self._queries.resign_relay(connection)
                raise
            except BaseException:
                # The lock goes with the connection, whatever state that is in.
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()
                raise

    async def _relay_on(self, connection: Connection) -> None:
        publisher = self._publisher()
        try:
            while True:
                await self._report(connection)
                while await self._relay(connection, publisher):
                    pass
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._wake.wait()
        finally:
            with suppress(nats.errors.Error):
                await publisher.close()

    def _publisher(self) -> Publisher:
        if not self._bus.connected:
            raise EventsUnavailableError("not connected")
        return Publisher(self._bus.client, ack_s=_ACK_S)

    async def _report(self, connection: Connection) -> None:
        lag = await self._queries.outbox_lag(connection)
        _WAITING.set(lag["waiting"])
        _OLDEST.set(lag["oldest_s"])
        _SET_ASIDE.set(await self._queries.count_set_aside(connection))

    async def _relay(self, connection: Connection, publisher: Publisher) -> bool:
        rows: list[asyncpg.Record] = [row async for row in self._queries.take_outbox(connection, limit=BATCH_MAX)]
        if not rows:
            return False
        too_large = await self._hand_over(publisher, rows)
        relayed = [row["id"] for index, row in enumerate(rows) if index not in too_large]
        await self._queries.forget_outbox(connection, ids=relayed)
        _RELAYED.inc(len(relayed))
        if too_large:
            await self._set_aside(connection, [rows[index] for index in too_large])
        return True

    async def _set_aside(self, connection: Connection, rows: list[asyncpg.Record]) -> None:
        await self._queries.set_aside_outbox(connection, ids=[row["id"] for row in rows])
        for row in rows:
            self._log.error(
                "an event is too large for the bus and was set aside",
                subject=row["subject"],
                event_id=str(row["event_id"]),
                size_bytes=len(row["body"]),
            )
        await self._report(connection)

    async def _hand_over(self, publisher: Publisher, rows: list[asyncpg.Record]) -> set[int]:
        """Which of them are too large; all others are stored."""
        if not self._bus.connected:
            raise EventsUnavailableError("not connected")
        try:
            return await publisher.publish([Outgoing(row["subject"], row["body"], _headers(row)) for row in rows])
        except NoStreamError:
            raise EventsUnavailableError("there is no stream of events; `bus apply` makes it") from None
        except (nats.errors.Error, NotStoredError) as error:
            raise EventsUnavailableError(repr(error)) from error


def _headers(row: asyncpg.Record) -> dict[str, str]:
    headers = event_headers(row["subject"], row["source"], str(row["event_id"]), row["created_at"])
    return {"Nats-Expected-Stream": STREAM_EVENTS, **headers}


def event_headers(subject: str, source: str, event_id: str, created_at: datetime | None = None) -> dict[str, str]:
    """The headers of an event, as CloudEvents in binary mode has them, and what JetStream tells repetitions by."""
    return {
        "Nats-Msg-Id": f"{source}/{event_id}",
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": source,
        "ce-type": subject,
        "ce-time": (created_at or datetime.now(UTC)).isoformat(),
        "content-type": "application/json",
    }
