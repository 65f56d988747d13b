"""The request log: batches off the hot path, through outages, each row once, bounded, and never in anyone's way."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY

from integration.synth.caller import synth_settings
from integration.synth.log_rows import ended
from odea_runtime.background import running
from odea_runtime.postgres import Database, StorageUnavailableError
from odea_synth.request_log import Ended, RequestLog
from odea_synth.store import RequestStore
from support.databases import Databases
from support.servers import PostgresServer
from support.waiting import until

NOWHERE = "postgresql://odea_synth:tests-only@127.0.0.1:1/odea"


class WatchedStore(RequestStore):
    """Writes for real, and remembers how often it tried and how many rows were taken at a time."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.attempts = 0
        self.batches: list[int] = []

    async def write(self, batch: Sequence[Ended]) -> None:
        self.attempts += 1
        await super().write(batch)
        self.batches.append(len(batch))


@asynccontextmanager
async def open_store(dsn: str) -> AsyncGenerator[WatchedStore]:
    database = Database(synth_settings("nats://unused", dsn, database_timeout_s="2"), "odea_synth", "synth")
    await database.start()
    yield WatchedStore(database)
    await database.stop()


@pytest.fixture(scope="module")
async def dsn(databases: Databases) -> str:
    return await databases.create("synth")


@pytest.fixture
async def table(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    """The log's table, empty."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("TRUNCATE synth.requests")
    yield connection
    await connection.close()


@pytest.fixture
async def store(dsn: str, table: asyncpg.Connection) -> AsyncGenerator[WatchedStore]:
    assert table
    async with open_store(dsn) as opened:
        yield opened


def fill(log: RequestLog, count: int) -> list[str]:
    rows = [ended() for _ in range(count)]
    for row in rows:
        log.add(row)
    return sorted(str(row.hold_id) for row in rows)


async def holds(table: asyncpg.Connection) -> list[str]:
    return sorted(str(row["hold_id"]) for row in await table.fetch("SELECT hold_id FROM synth.requests"))


def dropped() -> float:
    return REGISTRY.get_sample_value("odea_synth_log_dropped_total") or 0.0


async def test_what_has_ended_is_written_in_batches(store: WatchedStore, table: asyncpg.Connection) -> None:
    log = RequestLog(store, queue_max=2000, pause_s=0.02)
    expected = fill(log, 1200)
    async with running(log.run()):
        await until(lambda: sum(store.batches) == 1200)
        await log.finish()
    assert store.batches == [500, 500, 200]
    assert await holds(table) == expected


async def test_every_column_is_what_it_was(store: WatchedStore, table: asyncpg.Connection) -> None:
    row = ended(first_audio_ms=77, outcome="client_gone", units_settled=3, provider_units=9)
    log = RequestLog(store, queue_max=10, pause_s=1)
    log.add(row)
    await log.flush()
    written = await table.fetchrow("SELECT * FROM synth.requests")
    assert written
    columns = msgspec.structs.asdict(row)
    received_at_ms = columns.pop("received_at_ms")
    assert round(written["received_at"].timestamp() * 1000) == received_at_ms
    assert {name: str(written[name]) for name in columns} == {name: str(value) for name, value in columns.items()}


async def test_rows_wait_through_an_outage_and_are_written_once(breakable_postgres: PostgresServer) -> None:
    dsn = await Databases(breakable_postgres.dsn).create("synth")
    async with open_store(dsn) as store:
        log = RequestLog(store, queue_max=2000, pause_s=0.02)
        before = fill(log, 3)
        async with running(log.run()):
            await until(lambda: store.batches == [3])
            breakable_postgres.stop()
            tried = store.attempts
            during = fill(log, 600)
            await until(lambda: store.attempts >= tried + 2)
            await asyncio.to_thread(breakable_postgres.restart)
            await until(lambda: sum(store.batches) == 603, within_s=20)
            after = fill(log, 2)
            await until(lambda: sum(store.batches) == 605)
            await log.finish()
    table = await asyncpg.connect(dsn)
    assert await holds(table) == sorted([*before, *during, *after])
    await table.close()


async def test_a_full_queue_drops_what_comes_then_and_counts_it(store: WatchedStore, table: asyncpg.Connection) -> None:
    """P10."""
    log = RequestLog(store, queue_max=3, pause_s=1)
    before = dropped()
    rows = [ended() for _ in range(5)]
    for row in rows:
        log.add(row)
    assert dropped() == before + 2
    await log.flush()
    assert await holds(table) == sorted(str(row.hold_id) for row in rows[:3])
    fill(log, 1)
    await log.flush()
    assert len(await holds(table)) == 4


async def test_refusals_leave_room_for_speeches(store: WatchedStore, table: asyncpg.Connection) -> None:
    """P10: whoever is refused a thousand times a second pushes nobody's speech out of the log."""
    log = RequestLog(store, queue_max=6, pause_s=1)
    for _ in range(100):
        log.add(ended(outcome="refused", hold_id=None, provider=None, units_settled=0, units_held=0))
    fill(log, 3)
    await log.flush()
    outcomes = [row["outcome"] for row in await table.fetch("SELECT outcome FROM synth.requests ORDER BY outcome")]
    assert outcomes == ["completed"] * 3 + ["refused"] * 3


async def test_two_who_flush_at_once_write_every_row_once_and_lose_none(
    store: WatchedStore, table: asyncpg.Connection
) -> None:
    """At the end of the process its own flush meets the one that runs beside the serving."""
    log = RequestLog(store, queue_max=2000, pause_s=1)
    expected = fill(log, 700)
    await asyncio.gather(log.flush(), log.flush(), log.finish())
    assert store.batches == [500, 200]
    assert await holds(table) == expected


async def test_a_batch_that_is_written_again_changes_nothing(store: WatchedStore, table: asyncpg.Connection) -> None:
    """A commit whose answer was lost is repeated."""
    rows = [ended(), ended()]
    await store.write(rows)
    await store.write(rows)
    assert len(await holds(table)) == 2


@pytest.mark.parametrize("wrong", [{"units_settled": 6}, {"voice": "a\x00b"}, {"received_at_ms": 0}])
async def test_a_row_that_the_database_refuses_is_dropped_and_keeps_no_other_out(
    store: WatchedStore, table: asyncpg.Connection, wrong: dict[str, object]
) -> None:
    log = RequestLog(store, queue_max=10, pause_s=1)
    before = dropped()
    good = [ended(), ended()]
    for row in (good[0], ended(**wrong), good[1]):
        log.add(row)
    await log.flush()
    assert dropped() == before + 1
    assert await holds(table) == sorted(str(row.hold_id) for row in good)


async def test_a_process_ends_well_without_its_database() -> None:
    """SIGTERM is answered with exit status 0; what is lost is counted."""
    async with open_store(NOWHERE) as store:
        log = RequestLog(store, queue_max=10, pause_s=1)
        fill(log, 4)
        before = dropped()
        with pytest.raises(StorageUnavailableError):
            await log.flush()
        assert dropped() == before
        await log.finish()
        assert dropped() == before + 4
