"""A hold that comes into being, or ends, between a replica's first look at it and its decision (P1, P2)."""

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest

from integration.quota.harness import Ledger, balances_are_true, overdue, reserve, settle
from odea_contracts.quota import Expired, Reserved, Settled, SettledBefore
from odea_quota.book import Expire
from odea_quota.store import HoldStore
from odea_runtime.postgres import Database
from odea_runtime.settings import DatabaseSettings, load
from support.waiting import until


class Turnstile:
    """A transaction that has the lock of an account, to let others past one by one."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._transaction = connection.transaction()

    @classmethod
    async def at(cls, dsn: str, account_id: str) -> "Turnstile":
        turnstile = cls(await asyncpg.connect(dsn))
        await turnstile._transaction.start()
        await turnstile._connection.execute("SELECT FROM quota.balances WHERE account_id = $1 FOR UPDATE", account_id)
        return turnstile

    async def until_waiting(self, sql: asyncpg.Connection, count: int) -> None:
        """Until so many wait for this transaction, or for one that waits for it."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid <> $1 AND cardinality(pg_blocking_pids(pid)) > 0"

        async def waits() -> bool:
            return await sql.fetchval(waiting, self._connection.get_server_pid()) == count

        await until(waits)

    async def open(self) -> None:
        await self._transaction.rollback()
        await self._connection.close()


@pytest.fixture
async def patient(quota_dsn: str) -> AsyncGenerator[Database]:
    """Of a replica that waits for locks as long as it takes."""
    environ = {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": quota_dsn, "ODEA_DATABASE_TIMEOUT_S": "30"}
    database = Database(load(DatabaseSettings, environ), "odea_quota", "quota")
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
async def two_accounts(ledger: Ledger) -> Ledger:
    for name in ("hall", "foyer"):
        await ledger.open_account(name)
    return ledger


async def test_a_hold_that_ended_while_its_account_was_waited_for(
    two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P2: two replicas settle a hold that neither knew at first; one charges it."""
    ledger, hold, kept = two_accounts, reserve(50), reserve(20)
    assert isinstance(await ledger.submit(kept), Reserved)
    foyer = await Turnstile.at(quota_dsn, "foyer")
    late = asyncio.create_task(HoldStore(patient).apply([reserve(1, "foyer"), settle(hold.hold_id, 30)]))
    await foyer.until_waiting(sql, 1)
    assert isinstance(await ledger.submit(hold), Reserved)
    hall = await Turnstile.at(quota_dsn, "hall")
    first = asyncio.create_task(HoldStore(patient).apply([settle(hold.hold_id, 40)]))
    await foyer.until_waiting(sql, 2)
    await foyer.open()
    await until(lambda: both_wait(sql))
    await hall.open()
    assert await first == [Settled(hold_id=hold.hold_id, units=40)]
    assert (await late)[1] == SettledBefore(hold_id=hold.hold_id, units=40)
    assert await ledger.used_and_held() == (40, 20, 1)
    await balances_are_true(sql, ledger)


async def test_two_replicas_never_wait_for_each_other(
    two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P9: one has the hall, meets a hold on the foyer late, and the other has the foyer and wants the hall."""
    ledger, hold = two_accounts, reserve(50, "foyer")
    hall = await Turnstile.at(quota_dsn, "hall")
    late = asyncio.create_task(HoldStore(patient).apply([reserve(1, "hall"), settle(hold.hold_id, 30)]))
    await hall.until_waiting(sql, 1)
    assert isinstance(await ledger.submit(hold), Reserved)
    both = reserve(7, "foyer", "hall")
    other = asyncio.create_task(HoldStore(patient).apply([both]))
    await hall.until_waiting(sql, 2)
    await hall.open()
    # PostgreSQL would end one of two that wait for each other, with an error for all of its batch.
    assert isinstance((await other)[0], Reserved)
    reserved, settled = await late
    assert isinstance(reserved, Reserved)
    assert settled == Settled(hold_id=hold.hold_id, units=30)
    assert await ledger.used_and_held("foyer") == (30, 7, 1)
    assert await ledger.used_and_held("hall") == (0, 8, 2)
    await balances_are_true(sql, ledger)


async def both_wait(sql: asyncpg.Connection) -> bool:
    """Whether two sessions wait, and one of them has the foyer: then both wait for the hall."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    free = "SELECT FROM quota.balances WHERE account_id = 'foyer' FOR UPDATE SKIP LOCKED"
    return await sql.fetchval(waiting) == 2 and await sql.fetch(free) == []


async def test_a_hold_that_was_opened_and_expired_meanwhile_is_charged_when_it_is_settled(
    two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P2: a late settlement that is answered as charged is charged."""
    ledger, hold = two_accounts, reserve(50)
    foyer = await Turnstile.at(quota_dsn, "foyer")
    late = asyncio.create_task(HoldStore(patient).apply([reserve(1, "foyer"), settle(hold.hold_id, 30)]))
    await foyer.until_waiting(sql, 1)
    assert isinstance(await ledger.submit(hold), Reserved)
    await overdue(sql, hold.hold_id)
    assert isinstance(await ledger.submit(Expire(hold.hold_id)), Expired)
    await foyer.open()
    assert (await late)[1] == Settled(hold_id=hold.hold_id, units=30, late=True)
    assert await ledger.used_and_held() == (30, 0, 0)
    await balances_are_true(sql, ledger)
