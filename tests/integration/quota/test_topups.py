"""Top-ups on a real database: given once, used before the plan, and never lost on the way (P1, P2)."""

import time

import asyncpg
import pytest
from msgspec.structs import replace

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    open_ledgers,
    overdue,
    release,
    reserve,
    settle,
    together,
)
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.plans import Account, TopUp
from odea_contracts.quota import Denied, Expired, Released, Reserved, Settled
from odea_quota.book import Expire
from odea_runtime.ids import new_uuid


def topup(units: int = 60, *, lasts_s: float = 3600, account_id: str = "hall") -> TopUp:
    expires_at_ms = time.time_ns() // 1_000_000 + int(lasts_s * 1000)
    return TopUp(topup_id=new_uuid(), account_id=account_id, units=units, expires_at_ms=expires_at_ms)


async def give(ledger: Ledger, command: TopUp) -> Account:
    reply = await ledger.accounts.top_up(command)
    assert isinstance(reply, Account), reply
    return reply


async def parts(sql: asyncpg.Connection, command: TopUp) -> tuple[int, int]:
    """Units left and held."""
    row = await sql.fetchrow("SELECT units_left, units_held FROM quota.topups WHERE topup_id = $1", command.topup_id)
    assert row is not None
    return row["units_left"], row["units_held"]


async def lapse(sql: asyncpg.Connection, command: TopUp) -> None:
    await sql.execute("UPDATE quota.topups SET expires_at = clock_timestamp() WHERE topup_id = $1", command.topup_id)


async def test_ten_callers_with_one_id_give_one(quota_dsn: str, sql: asyncpg.Connection) -> None:
    async with open_ledgers(quota_dsn, 3) as ledgers:
        await ledgers[0].open_account()
        command = topup(60)
        starts = [lambda ledger=ledgers[number % 3]: ledger.accounts.top_up(command) for number in range(10)]
        for reply in await together(*starts):
            assert isinstance(reply, Account)
            assert (reply.balance.topup_remaining, reply.balance.remaining) == (60, 160)
        assert await sql.fetchval("SELECT count(*) FROM quota.topups") == 1
        assert await sql.fetchval("SELECT sum(units) FROM quota.entries WHERE debit = 'operator'") == 60
        await balances_are_true(sql, ledgers[0])


async def test_repeating_one_that_is_used_gives_nothing_back(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    command = topup(60)
    await give(ledger, command)
    hold = reserve(50)
    await ledger.submit(hold)
    await ledger.submit(settle(hold.hold_id, 50))
    assert (await give(ledger, command)).balance.topup_remaining == 10
    await lapse(sql, command)
    assert isinstance(await ledger.accounts.top_up(command), Failure), "its end is another one now"
    assert await parts(sql, command) == (10, 0)


@pytest.mark.parametrize("expires_at_ms", [0, 253_402_300_799_999, 2**53 - 1, 2**53])
async def test_any_time_that_can_be_sent_can_be_repeated(ledger: Ledger, expires_at_ms: int) -> None:
    await ledger.open_account()
    command = replace(topup(60), expires_at_ms=expires_at_ms)
    assert (await give(ledger, command)).balance.topup_remaining == (60 if expires_at_ms else 0)
    await give(ledger, command)


@pytest.mark.parametrize("change", [{"units": 61}, {"account_id": "foyer"}, {"expires_at_ms": 4_000_000_000_000}])
async def test_the_same_id_for_something_else_is_refused(
    ledger: Ledger, sql: asyncpg.Connection, change: dict[str, int | str]
) -> None:
    await ledger.open_account()
    await ledger.open_account("foyer")
    command = topup(60)
    await give(ledger, command)
    reply = await ledger.accounts.top_up(replace(command, **change))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.CONFLICT, "topup_id")
    assert await parts(sql, command) == (60, 0)
    assert (await ledger.balance("foyer")).topup_remaining == 0
    await balances_are_true(sql, ledger)


async def test_nobody_can_be_topped_up_who_has_no_account(ledger: Ledger, sql: asyncpg.Connection) -> None:
    reply = await ledger.accounts.top_up(topup(60))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.NOT_FOUND, "account_id")
    assert await sql.fetchval("SELECT count(*) FROM quota.topups") == 0
    assert await sql.fetchval("SELECT count(*) FROM quota.entries") == 0


async def test_what_is_held_survives_the_lapse(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=10)
    soon, later = topup(30, lasts_s=600), topup(30, lasts_s=3600)
    await give(ledger, later)
    await give(ledger, soon)
    kept, left = reserve(20), reserve(35)
    assert isinstance(await ledger.submit(kept), Reserved)
    assert isinstance(await ledger.submit(left), Reserved)
    assert (await parts(sql, soon), await parts(sql, later)) == ((0, 30), (5, 25))
    await lapse(sql, soon)
    assert await ledger.submit(settle(kept.hold_id, 18)) == Settled(hold_id=kept.hold_id, units=18)
    assert await ledger.submit(release(left.hold_id)) == Released(hold_id=left.hold_id)
    assert (await parts(sql, soon), await parts(sql, later)) == ((12, 0), (30, 0))
    assert (await ledger.balance()).remaining == 40, "the plan's and what has not lapsed"
    assert isinstance(await ledger.submit(reserve(41)), Denied)
    assert isinstance(await ledger.submit(reserve(40)), Reserved)
    assert await sql.fetchval("SELECT held FROM quota.balances") == 10
    assert await sql.fetchval("SELECT sum(units) FROM quota.entries WHERE credit = 'provider:piper'") == 18


async def test_another_replica_ends_the_hold(quota_dsn: str, sql: asyncpg.Connection) -> None:
    """Which unit came from where is on record, for the tenant's account and the key's."""
    async with open_ledgers(quota_dsn, 2) as (opener, ender):
        await opener.open_account()
        await opener.open_account("hall_key", units=20)
        theirs, ours = topup(30), topup(5, account_id="hall_key")
        await give(opener, theirs)
        await give(opener, ours)
        hold = reserve(24, "hall", "hall_key")
        assert isinstance(await opener.submit(hold), Reserved)
        assert await ender.submit(settle(hold.hold_id, 10)) == Settled(hold_id=hold.hold_id, units=10)
        assert (await parts(sql, theirs), await parts(sql, ours)) == ((20, 0), (0, 0))
        rows = await sql.fetch("SELECT debit, credit, units FROM quota.entries WHERE cause_id = $1", hold.hold_id)
        assert {tuple(row) for row in rows} == {
            (f"topup:{theirs.topup_id}", "provider:piper", 10),
            (f"topup:{ours.topup_id}", "budget:hall", 5),
            ("hall_key", "budget:hall", 5),
        }
        assert await opener.used_and_held("hall_key") == (5, 0, 0)


async def test_a_late_charge_takes_what_is_live_and_no_more(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=10)
    lapsing, live = topup(30), topup(30, lasts_s=7200)
    await give(ledger, lapsing)
    await give(ledger, live)
    hold = reserve(65)
    await ledger.submit(hold)
    await overdue(sql)
    assert await ledger.submit(Expire(hold.hold_id)) == Expired(hold_id=hold.hold_id)
    await lapse(sql, lapsing)
    assert await ledger.submit(settle(hold.hold_id, 41)) == Expired(hold_id=hold.hold_id)
    assert await ledger.submit(settle(hold.hold_id, 35)) == Settled(hold_id=hold.hold_id, units=35, late=True)
    assert (await parts(sql, lapsing), await parts(sql, live)) == ((30, 0), (0, 0))
    assert await ledger.used_and_held() == (5, 0, 0)


async def test_no_more_is_taken_than_was_given_however_many_ask(quota_dsn: str, sql: asyncpg.Connection) -> None:
    """P1: forty callers on three replicas for a plan of 10 and a top-up of 20."""
    async with open_ledgers(quota_dsn, 3) as ledgers:
        await ledgers[0].open_account(units=10)
        await give(ledgers[0], topup(20))
        starts = [lambda ledger=ledgers[number % 3]: ledger.submit(reserve(1)) for number in range(40)]
        answers = await together(*starts)
        assert sum(isinstance(answer, Reserved) for answer in answers) == 30
        assert (await ledgers[0].balance()).remaining == 0
        assert await sql.fetchval("SELECT held FROM quota.balances") == 10


async def test_what_is_used_up_burdens_no_decision(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await give(ledger, topup(20))
    hold = reserve(20)
    await ledger.submit(hold)
    await ledger.submit(settle(hold.hold_id, 20))
    query = ledger.database.queries.find_topups
    assert [row async for row in query(sql, account_ids=["hall"])] == []
