"""What was used before is charged once, whole, never past the limit, and the ledger knows it (P1, P2)."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    end_windows,
    reserve,
    settle,
    submit_together,
    together,
)
from odea_contracts.audit import AuditAction, AuditDetail, AuditList, AuditPage
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.plans import Account, CarryOver, TopUp
from odea_contracts.quota import (
    Denied,
    Reserved,
    Settled,
    UsagePoint,
    UsageSeries,
    UsageSeriesReport,
    Window,
)
from odea_contracts.quota_events import ThresholdCrossed
from odea_contracts.subjects import QUOTA_THRESHOLD_CROSSED
from odea_quota.audit import find_differences
from odea_runtime.ids import new_uuid


def used(units: int = 60, *, account_id: str = "hall", carryover_id: str | None = None) -> CarryOver:
    return CarryOver(carryover_id=carryover_id or new_uuid(), account_id=account_id, units=units, actor="key_9")


async def carried(ledger: Ledger, command: CarryOver) -> Account:
    reply = await ledger.carryovers.carry_over(command)
    assert isinstance(reply, Account), reply
    return reply


async def refusal(ledger: Ledger, command: CarryOver) -> tuple[ErrorCode, str | None]:
    reply = await ledger.carryovers.carry_over(command)
    assert isinstance(reply, Failure), reply
    return reply.code, reply.param


async def everything(sql: asyncpg.Connection) -> list[list[asyncpg.Record]]:
    """All rows that a charge could touch."""
    tables = ("balances", "carryovers", "entries", "usage_days", "audit", "outbox", "topups", "repeats")
    return [await sql.fetch(f"SELECT * FROM quota.{table}") for table in tables]


async def points(ledger: Ledger) -> tuple[UsagePoint, ...]:
    today = datetime.now(UTC).date().isoformat()
    reply = await ledger.reader.usage_series(UsageSeries(tenant_id="ten", first_day=today, days=2))
    assert isinstance(reply, UsageSeriesReport), reply
    return reply.points


async def test_it_counts_in_the_present_window_as_any_charge(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=100)
    account = await carried(ledger, used(60))
    assert (account.balance.used, account.balance.held, account.balance.remaining) == (60, 0, 40)
    assert isinstance(await ledger.submit(reserve(41)), Denied)
    held = await ledger.submit(reserve(40))
    assert isinstance(held, Reserved)
    assert isinstance(await ledger.submit(settle(held.hold_id, 40)), Settled)
    assert await ledger.used_and_held() == (100, 0, 0)
    rows = await sql.fetch("SELECT debit, credit, units FROM quota.entries WHERE credit = 'predecessor'")
    assert [tuple(row) for row in rows] == [("hall", "predecessor", 60)]
    await balances_are_true(sql, ledger)


async def test_repeating_it_changes_nothing_for_ever(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    """Ten callers on three replicas, each without a name; after that in other windows too."""
    await ledgers[0].open_account(units=100, window=Window.DAY)
    command = used(60)
    starts = [lambda ledger=ledgers[number % 3]: carried(ledger, command) for number in range(10)]
    assert {account.balance.used for account in await together(*starts)} == {60}
    assert await sql.fetchval("SELECT count(*) FROM quota.entries") == 1
    assert await sql.fetchval("SELECT count(*) FROM quota.audit WHERE action = 'carried_over'") == 1
    await balances_are_true(sql, ledgers[0])
    await end_windows(sql)
    assert (await carried(ledgers[1], command)).balance.used == 0, "its window is over"
    assert await sql.fetchval("SELECT count(*) FROM quota.entries") == 1


async def test_what_the_limit_does_not_leave_changes_nothing(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """Neither do top-ups make room for it, nor does what is held for others."""
    await ledger.open_account(units=100)
    topup = TopUp(topup_id=new_uuid(), account_id="hall", units=50, expires_at_ms=2**42)
    assert isinstance(await ledger.accounts.top_up(topup), Account)
    await ledger.submit(reserve(50))
    await ledger.submit(reserve(30))
    before = await everything(sql)
    command = used(71)
    assert await refusal(ledger, command) == (ErrorCode.EXCEEDS_LIMIT, "units")
    assert await refusal(ledger, msgspec.structs.replace(command, idempotency_key="order-7")) == (
        ErrorCode.EXCEEDS_LIMIT,
        "units",
    )
    assert await everything(sql) == before
    assert (await carried(ledger, msgspec.structs.replace(command, units=70))).balance.used == 70
    assert await find_differences(ledger.database) == []


async def test_the_same_id_for_something_else_is_refused(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await ledger.open_account("foyer")
    command = used(60)
    await carried(ledger, command)
    before = await everything(sql)
    for change in ({"units": 61}, {"account_id": "foyer"}):
        fields: dict[str, Any] = change
        other = msgspec.structs.replace(command, **fields)
        assert await refusal(ledger, other) == (ErrorCode.CONFLICT, "carryover_id")
    assert await refusal(ledger, used(account_id="nobody")) == (ErrorCode.NOT_FOUND, "account_id")
    assert await everything(sql) == before


async def test_a_window_that_has_ended_is_begun_anew(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=100, window=Window.DAY)
    await carried(ledger, used(90))
    await end_windows(sql)
    assert (await carried(ledger, used(95))).balance.used == 95
    assert await refusal(ledger, used(6)) == (ErrorCode.EXCEEDS_LIMIT, "units")
    await balances_are_true(sql, ledger)


async def test_without_a_limit_all_of_it_is_charged(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=None)
    assert (await carried(ledger, used(10**9))).balance.used == 10**9
    await balances_are_true(sql, ledger)


async def test_the_days_show_it_apart_from_requests(ledger: Ledger) -> None:
    await ledger.accounts.open_account("ten", "ten", "default")
    await ledger.accounts.open_account("key", "ten", "default")
    await carried(ledger, used(60, account_id="ten"))
    await carried(ledger, used(5, account_id="ten"))
    await carried(ledger, used(40, account_id="key"))
    hold = reserve(20, "ten", "key")
    await ledger.submit(hold)
    await ledger.submit(settle(hold.hold_id, 20))
    today = datetime.now(UTC).date().isoformat()
    assert await points(ledger) == (
        UsagePoint(day=today, key_id="carried_over", units=65, requests=0),
        UsagePoint(day=today, key_id="key", units=20, requests=1),
    )
    assert (await ledger.balance("ten")).used == 85, "as the days say"
    assert (await ledger.balance("key")).used == 60
    assert await find_differences(ledger.database) == []


async def test_a_soft_limit_that_it_reaches_is_told(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=100, soft_limits_percent=(50, 90))
    await carried(ledger, used(60))
    rows = await sql.fetch("SELECT body FROM quota.outbox WHERE subject = $1", QUOTA_THRESHOLD_CROSSED)
    told = [msgspec.json.decode(row["body"], type=ThresholdCrossed) for row in rows]
    assert [(event.account_id, event.tenant_id, event.percent, event.used) for event in told] == [
        ("hall", "ten", 50, 60)
    ]


async def test_the_audit_says_who_carried_over_what(ledger: Ledger) -> None:
    await ledger.open_account()
    command = used(60)
    await carried(ledger, command)
    page = await ledger.audit.page(AuditList(limit=1))
    assert isinstance(page, AuditPage)
    (entry,) = page.entries
    assert (entry.action, entry.actor, entry.tenant_id, entry.key_id) == (
        AuditAction.CARRIED_OVER,
        "key_9",
        "ten",
        "hall",
    )
    assert entry.detail == AuditDetail(units=60, carryover_id=command.carryover_id)


async def test_no_more_than_the_limit_goes_in_however_many_ask(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    """P1: thirty carry-overs and thirty holds of ten units for a plan of a hundred, all at once."""
    await ledgers[0].open_account(units=100)
    commands = [reserve(10) for _ in range(30)]
    starts = [lambda ledger=ledgers[n % 3]: ledger.carryovers.carry_over(used(10)) for n in range(30)]
    carrying, holding = await together(lambda: together(*starts), lambda: submit_together(ledgers, [*commands]))
    taken = sum(isinstance(reply, Account) for reply in carrying)
    held = sum(isinstance(answer, Reserved) for answer in holding)
    assert taken + held == 10
    assert await ledgers[0].used_and_held() == (taken * 10, held * 10, held)
    await balances_are_true(sql, ledgers[0])


async def test_nothing_of_it_can_be_changed(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await carried(ledger, used(60))
    for statement in (
        "UPDATE quota.carryovers SET units = 1",
        "DELETE FROM quota.carryovers",
        "TRUNCATE quota.carryovers",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await sql.execute(statement)


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        ("UPDATE quota.balances SET used = used - 1 WHERE used > 0", "balances"),
        ("UPDATE quota.carryovers SET units = units - 1", "carryovers"),
        ("UPDATE quota.carryovers SET account_id = 'foyer'", "carryovers"),
        ("DELETE FROM quota.carryovers", "carryovers"),
        ("DELETE FROM quota.entries", "carryovers"),
        ("UPDATE quota.entries SET debit = 'foyer'", "carryovers"),
        ("UPDATE quota.usage_days SET units = units + 1", "usage_days"),
        ("DELETE FROM quota.usage_days", "usage_days"),
    ],
)
async def test_the_audit_of_the_ledger_finds_what_does_not_add_up(
    ledger: Ledger, sql: asyncpg.Connection, harm: str, check: str
) -> None:
    await ledger.accounts.open_account("ten", "ten", "default")
    await ledger.open_account("foyer")
    await carried(ledger, used(60, account_id="ten"))
    assert await find_differences(ledger.database) == []
    for table in ("carryovers", "entries"):
        await sql.execute(f"ALTER TABLE quota.{table} DISABLE TRIGGER USER")
    await sql.execute(harm)
    assert check in {difference.check for difference in await find_differences(ledger.database)}
