"""An outbox in a real schema, a relay to run and to break, and a look at what came out of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import nats.js.errors
from nats.js.api import RawStreamMsg

from integration.runtime.harness import open_bus
from odea_contracts.subjects import STREAM_EVENTS
from odea_runtime.bus import Bus
from odea_runtime.outbox import Outbox
from odea_runtime.postgres import Database
from odea_runtime.settings import DatabaseSettings, load

INSERT = """
INSERT INTO quota.outbox (subject, event_id, source, body)
SELECT $1, gen_random_uuid(), 'odea/quota', convert_to(number::text, 'UTF8')
FROM generate_series($2::int, $3::int) AS number
"""


class Ledger:
    """The service's side: writes events, and sees what has not left."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        # A subject of its own keeps a test's events apart from those of others in the one stream.
        self.subject = f"odea.v1.hall_{uuid4().hex}.evt.happened"
        self.written = 0

    async def write(self, count: int) -> None:
        """Write so many events, in one transaction; their bodies are the numbers from 0 on."""
        async with connected(self._dsn) as connection:
            await connection.execute(INSERT, self.subject, self.written, self.written + count - 1)
        self.written += count

    async def waiting(self) -> int:
        """How many events have not left."""
        return await count(self._dsn, "SELECT count(*) FROM quota.outbox")

    async def is_empty(self) -> bool:
        return await self.waiting() == 0


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def relaying(nats_url: str, dsn: str) -> AsyncGenerator[Outbox]:
    """One replica's relay."""
    settings = load(DatabaseSettings, {"ODEA_NATS_URL": nats_url, "ODEA_DATABASE_URL": dsn})
    database = Database(settings, "odea_quota", "quota")
    await database.start()
    async with open_bus(nats_url, service="quota") as bus:
        outbox = Outbox(database, bus)
        running = asyncio.create_task(outbox.run())
        try:
            yield outbox
        finally:
            # A relay that ended by itself failed.
            assert not running.done()
            running.cancel()
            await asyncio.wait([running])
    await database.stop()


async def stored(bus: Bus, subject: str) -> list[RawStreamMsg]:
    """The events on `subject`, in the stream's order."""
    jetstream, found = bus.client.jetstream(), list[RawStreamMsg]()
    while True:
        after = (found[-1].seq or 0) + 1 if found else 1
        try:
            found.append(await jetstream.get_msg(STREAM_EVENTS, seq=after, subject=subject, next=True))
        except nats.js.errors.NotFoundError:
            return found


async def numbers(bus: Bus, subject: str) -> list[int]:
    """The bodies of the events on `subject`."""
    return [int(message.data or b"") for message in await stored(bus, subject)]


async def count_stored(bus: Bus, subject: str) -> int:
    info = await bus.client.jetstream(timeout=1).stream_info(STREAM_EVENTS, subjects_filter=subject)
    return (info.state.subjects or {}).get(subject, 0)


async def count(dsn: str, query: str) -> int:
    """The number that `query` gives."""
    async with connected(dsn) as connection:
        found = await connection.fetchval(query)
    assert isinstance(found, int)
    return found


async def terminate(admin_dsn: str, condition: str) -> int:
    """End the database's sessions that `condition` names, as an operator or a failover would."""
    sessions = f"FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    return await count(admin_dsn, f"SELECT count(pg_terminate_backend(pid)) {sessions}")
