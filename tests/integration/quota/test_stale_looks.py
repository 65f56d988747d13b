"""What changes between a replica's look and its write, on which it has decided by then (P1, P2)."""

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest
from prometheus_client import REGISTRY

from integration.quota.harness import Ledger, balances_are_true, overdue, release, reserve, settle
from odea_contracts.quota import Denied, Expired, Reserved, Settled, SettledBefore
from odea_quota.book import Expire
from odea_quota.store import HoldStore
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Database
from odea_runtime.settings import DatabaseSettings, load
from support.waiting import until

_WRITE = "UPDATE quota.balances SET used = used WHERE account_id = $1"


class Turnstile:
    """A transaction that has the lock of an account, to let others past one by one."""

    def __init__(self, connection: asyncpg.Connection, account_id: str) -> None:
        self._connection = connection
        self._account_id = account_id
        self._transaction = connection.transaction()

    @classmethod
    async def at(cls, dsn: str, account_id: str) -> "Turnstile":
        turnstile = cls(await asyncpg.connect(dsn), account_id)
        await turnstile._transaction.start()
        await turnstile._connection.execute("SELECT FROM quota.balances WHERE account_id = $1 FOR UPDATE", account_id)
        return turnstile

    async def until_waiting(self, sql: asyncpg.Connection, count: int) -> None:
        """Until so many wait for this transaction, or for one that waits for it."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid <> $1 AND cardinality(pg_blocking_pids(pid)) > 0"

        async def waits() -> bool:
            return await sql.fetchval(waiting, self._connection.get_server_pid()) == count

        await until(waits)

    async def open(self, *, changed: bool = False) -> None:
        """Let the others pass, who find the account as it was unless it was changed."""
        if changed:
            await self._connection.execute(
                "UPDATE quota.balances SET used = used WHERE account_id = $1", self._account_id
            )
        await self._transaction.commit()
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


@pytest.fixture
async def wary(two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection) -> HoldStore:
    """Of a replica that was overtaken at the hall, whose free hold of a unit it has given back."""
    store, hold = HoldStore(patient), reserve(1)
    hall = await Turnstile.at(quota_dsn, "hall")
    late = asyncio.create_task(store.apply([hold]))
    await hall.until_waiting(sql, 1)
    await hall.open(changed=True)
    assert isinstance((await late)[0], Reserved)
    await two_accounts.submit(release(hold.hold_id))
    return store


def overtaken_times() -> float:
    """How often somebody was, in this process."""
    return REGISTRY.get_sample_value("odea_quota_overtaken_total") or 0


async def test_a_hold_that_ended_before_the_write(
    two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P2: two replicas settle a hold that both saw open; one charges it, and the other one's batch is decided again."""
    ledger, hold, kept = two_accounts, reserve(50), reserve(20)
    for command in (kept, hold):
        assert isinstance(await ledger.submit(command), Reserved)
    foyer = await Turnstile.at(quota_dsn, "foyer")
    late = asyncio.create_task(HoldStore(patient).apply([reserve(1, "foyer"), settle(hold.hold_id, 30)]))
    await foyer.until_waiting(sql, 1)
    assert await ledger.submit(settle(hold.hold_id, 40)) == Settled(hold_id=hold.hold_id, units=40)
    await foyer.open()
    reserved, settled = await late
    assert isinstance(reserved, Reserved)
    assert settled == SettledBefore(hold_id=hold.hold_id, units=40)
    assert await ledger.used_and_held() == (40, 20, 1)
    assert await ledger.used_and_held("foyer") == (0, 1, 1)
    await balances_are_true(sql, ledger)


async def test_two_replicas_never_wait_for_each_other(
    two_accounts: Ledger, wary: HoldStore, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P9: one has the hall and meets a hold on the foyer; it lets go of the hall before it waits for both in order."""
    ledger, hold = two_accounts, reserve(50, "foyer")
    hall = await Turnstile.at(quota_dsn, "hall")
    late = asyncio.create_task(wary.apply([reserve(1, "hall"), settle(hold.hold_id, 30)]))
    await hall.until_waiting(sql, 1)
    assert isinstance(await ledger.submit(hold), Reserved)
    foyer = await Turnstile.at(quota_dsn, "foyer")
    await hall.open()
    await foyer.until_waiting(sql, 1)
    # Else PostgreSQL would end one of two that wait for each other, with an error for all of its batch.
    assert await sql.fetch("SELECT FROM quota.balances WHERE account_id = 'hall' FOR UPDATE SKIP LOCKED")
    await foyer.open()
    reserved, settled = await late
    assert isinstance(reserved, Reserved)
    assert settled == Settled(hold_id=hold.hold_id, units=30)
    assert await ledger.used_and_held("foyer") == (30, 0, 0)
    assert await ledger.used_and_held("hall") == (0, 1, 1)
    await balances_are_true(sql, ledger)


async def test_who_was_overtaken_takes_the_locks_first(
    two_accounts: Ledger, wary: HoldStore, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """Of two replicas that share an account all the time, neither decides everything twice."""
    ledger, hold, before = two_accounts, reserve(50, "foyer"), overtaken_times()
    assert isinstance(await ledger.submit(hold), Reserved)
    foyer = await Turnstile.at(quota_dsn, "foyer")
    late = asyncio.create_task(wary.apply([reserve(1, "hall"), settle(hold.hold_id, 30)]))
    await foyer.until_waiting(sql, 1)
    await foyer.open(changed=True)
    assert (await late)[1] == Settled(hold_id=hold.hold_id, units=30)
    assert overtaken_times() == before
    await balances_are_true(sql, ledger)


async def test_whoever_was_not_overtaken_for_long_tries_without_locks_again(
    two_accounts: Ledger, wary: HoldStore, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """A replica that has its accounts for itself again waits for the database twice, and not four times."""
    for _ in range(100):
        await wary.apply([settle(new_uuid(), 1)])
    before = overtaken_times()
    hall = await Turnstile.at(quota_dsn, "hall")
    late = asyncio.create_task(wary.apply([reserve(1)]))
    await hall.until_waiting(sql, 1)
    await hall.open(changed=True)
    assert isinstance((await late)[0], Reserved)
    assert overtaken_times() == before + 1
    await balances_are_true(sql, two_accounts)


async def test_a_hold_that_expired_before_the_write_is_charged_as_late(
    two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P2: a late settlement that is answered as charged is charged."""
    ledger, hold = two_accounts, reserve(50)
    assert isinstance(await ledger.submit(hold), Reserved)
    foyer = await Turnstile.at(quota_dsn, "foyer")
    late = asyncio.create_task(HoldStore(patient).apply([reserve(1, "foyer"), settle(hold.hold_id, 30)]))
    await foyer.until_waiting(sql, 1)
    await overdue(sql, hold.hold_id)
    assert isinstance(await ledger.submit(Expire(hold.hold_id)), Expired)
    await foyer.open()
    assert (await late)[1] == Settled(hold_id=hold.hold_id, units=30, late=True)
    assert await ledger.used_and_held() == (30, 0, 0)
    await balances_are_true(sql, ledger)


async def test_limits_that_were_changed_before_the_write_hold(
    two_accounts: Ledger, patient: Database, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P1: what an administrator changed in the meantime counts, not what was seen."""
    foyer = await Turnstile.at(quota_dsn, "foyer")
    late = asyncio.create_task(HoldStore(patient).apply([reserve(1, "foyer"), reserve(1, "hall")]))
    await foyer.until_waiting(sql, 1)
    await sql.execute("UPDATE quota.balances SET suspended = true WHERE account_id = 'hall'")
    await foyer.open()
    assert [type(answer) for answer in await late] == [Reserved, Denied]
    assert await two_accounts.used_and_held("hall") == (0, 0, 0)
    await balances_are_true(sql, two_accounts)
