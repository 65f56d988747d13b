"""The request log forgets by whole months, and many replicas do so at once (P10)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import pytest

from integration.synth.log_rows import ended, open_request_store, partitions
from odea_runtime.background import running
from odea_synth.request_log import RequestLog
from support.databases import Databases
from support.waiting import until


@pytest.fixture
async def dsn(databases: Databases) -> str:
    return await databases.create("synth")


@pytest.fixture
async def table(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    """The log's table with the months of a year."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "SELECT synth.ensure_partition(clock_timestamp() - n * interval '1 month') FROM generate_series(1, 12) AS n"
    )
    yield connection
    await connection.close()


AHEAD: Final = 3
"""Months that a service makes besides the running one; the schema begins with one."""


def kept(retention_days: int, ahead: int = 1) -> list[str]:
    """The months that hold a day that must be kept, and those that come."""
    now = datetime.now(UTC)
    oldest = now - timedelta(days=retention_days)
    months = (now.year * 12 + now.month) - (oldest.year * 12 + oldest.month) + 1 + ahead
    first = oldest.year * 12 + oldest.month - 1
    return [f"{month // 12:04}_{month % 12 + 1:02}" for month in range(first, first + months)]


@pytest.mark.parametrize("retention_days", [1, 90, 200])
async def test_months_that_ended_long_enough_ago_go_and_no_other(
    dsn: str, table: asyncpg.Connection, retention_days: int
) -> None:
    assert len(await partitions(table)) == 14
    async with open_request_store(dsn) as store:
        await store.drop_partitions(retention_days)
    assert await partitions(table) == kept(retention_days)


async def test_eight_replicas_at_once_make_and_drop_them_without_a_fault(dsn: str, table: asyncpg.Connection) -> None:
    await table.execute("DROP TABLE synth.requests_" + kept(1)[-1])
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_request_store(dsn)) for _ in range(8)]
        await asyncio.gather(*(store.ensure_partitions() for store in stores))
        await asyncio.gather(*(store.drop_partitions(30) for store in stores))
    assert await partitions(table) == kept(30, AHEAD)


async def test_a_month_that_somebody_reads_is_not_waited_for(dsn: str, table: asyncpg.Connection) -> None:
    """A drop that waited would keep everybody else from the log meanwhile."""
    async with open_request_store(dsn) as store:
        async with table.transaction():
            await table.execute("SELECT count(*) FROM synth.requests")
            async with asyncio.timeout(3):
                await store.drop_partitions(1)
            assert len(await partitions(table)) == 14
        await store.drop_partitions(1)
    assert await partitions(table) == kept(1)


async def test_a_month_is_made_while_somebody_reads(dsn: str, table: asyncpg.Connection) -> None:
    """Making one that waited would do the same."""
    async with open_request_store(dsn) as store:
        async with table.transaction():
            await table.execute("SELECT count(*) FROM synth.requests")
            await store.ensure_partitions()
        assert len(await partitions(table)) == 13 + AHEAD


async def count(table: asyncpg.Connection, rows: int) -> bool:
    return await table.fetchval("SELECT count(*) FROM synth.requests") == rows


@pytest.mark.parametrize("retention_days", [0, 30])
async def test_the_service_does_it_by_itself_unless_told_to_keep_all(
    dsn: str, table: asyncpg.Connection, retention_days: int
) -> None:
    wanted = 13 + AHEAD if retention_days == 0 else len(kept(30, AHEAD))

    async def are_as_wanted() -> bool:
        return len(await partitions(table)) == wanted

    async with open_request_store(dsn) as store:
        log = RequestLog(store, queue_max=10, pause_s=0.02, retention_days=retention_days)
        async with running(log.run()):
            # Where something stands in the way it is tried again.
            await until(are_as_wanted)
            log.add(ended())
            await until(lambda: count(table, 1))
    assert await are_as_wanted()
