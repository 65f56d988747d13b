"""Months of the ledger are made early, and neither wait for a reader nor keep anybody waiting (P3, P9)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import asyncpg
import pytest

from integration.quota.harness import Ledger, balances_are_true, open_ledger, overdue, reserve, settle, together
from odea_contracts.quota import Reserved, Settled
from odea_runtime.postgres import StorageUnavailableError
from support.waiting import until

PARENTS: Final = ("entries", "resolutions")


def months(count: int) -> list[str]:
    """This month and those behind it, as the names of partitions have them."""
    now = datetime.now(UTC)
    first = now.year * 12 + now.month - 1
    return [f"{month // 12:04}_{month % 12 + 1:02}" for month in range(first, first + count)]


async def partitions(sql: asyncpg.Connection) -> list[str]:
    rows = await sql.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent IN ('quota.entries'::regclass, 'quota.resolutions'::regclass)"
    )
    return sorted(row["relname"] for row in rows)


async def drop(sql: asyncpg.Connection, names: list[str]) -> None:
    await sql.execute("DROP TABLE " + ", ".join(f"quota.{name}" for name in names))


@asynccontextmanager
async def another(dsn: str, statement: str) -> AsyncGenerator[None]:
    """Somebody else who is in the middle of a transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


ALL: Final = sorted(f"{parent}_{month}" for parent in PARENTS for month in months(4))
AUDIT: Final = "SELECT count(*) FROM quota.entries, quota.resolutions"
CHANGE: Final = "LOCK TABLE quota.entries, quota.resolutions IN SHARE UPDATE EXCLUSIVE MODE"
"""What VACUUM and another attaching take."""


async def test_they_are_made_three_months_ahead_by_many_replicas_at_once(
    ledgers: list[Ledger], sql: asyncpg.Connection
) -> None:
    await drop(sql, await partitions(sql))
    await together(*(ledger.store.ensure_partitions for ledger in ledgers * 3))
    assert await partitions(sql) == ALL
    await together(*(ledger.store.ensure_partitions for ledger in ledgers))
    assert await partitions(sql) == ALL


async def test_a_running_audit_is_not_waited_for(ledger: Ledger, quota_dsn: str, sql: asyncpg.Connection) -> None:
    """And so nobody stands behind one who waits for it."""
    await drop(sql, await partitions(sql))
    async with another(quota_dsn, AUDIT):
        await ledger.store.ensure_partitions()
        assert await partitions(sql) == ALL
        await ledger.open_account()
        hold = reserve(5)
        assert isinstance(await ledger.submit(hold), Reserved)
        assert isinstance(await ledger.submit(settle(hold.hold_id, 5)), Settled)
    await balances_are_true(sql, ledger)


async def test_holds_end_while_they_can_not_be_made(quota_dsn: str, sql: asyncpg.Connection) -> None:
    """The next is tried soon."""
    async with open_ledger(quota_dsn) as owner:
        await owner.open_account()
        assert isinstance(await owner.submit(reserve(2)), Reserved)
        await owner.store.ensure_partitions()
    await overdue(sql)
    await drop(sql, [name for name in ALL if name.endswith(months(4)[-1])])

    async def nothing_is_held() -> bool:
        return await sql.fetchval("SELECT count(*) FROM quota.holds") == 0

    async def all_are_there() -> bool:
        return await partitions(sql) == ALL

    async with another(quota_dsn, CHANGE), open_ledger(quota_dsn, sweep_s=0.1) as ledger:
        with pytest.raises(StorageUnavailableError):
            await ledger.store.ensure_partitions()
        await until(nothing_is_held)
        assert not await all_are_there()
    async with open_ledger(quota_dsn, sweep_s=0.1):
        await until(all_are_there)


async def test_a_month_that_was_attached_is_as_guarded_as_the_others(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.store.ensure_partitions()
    for name in ALL:
        with pytest.raises(asyncpg.RestrictViolationError):
            await sql.execute(f"TRUNCATE quota.{name}")
    guards = await sql.fetch(
        "SELECT c.relname, (SELECT count(*) FROM pg_trigger AS t WHERE t.tgrelid = c.oid) AS triggers,"
        " (SELECT count(*) FROM pg_constraint AS k WHERE k.conrelid = c.oid) AS constraints,"
        " (SELECT count(*) FROM pg_index AS i WHERE i.indrelid = c.oid) AS indexes"
        " FROM pg_class AS c WHERE c.relname = ANY($1::text[])",
        ALL,
    )
    by_parent = {
        (row["relname"].rpartition("_2")[0], row["triggers"], row["constraints"], row["indexes"]) for row in guards
    }
    assert len(by_parent) == len(PARENTS), by_parent
