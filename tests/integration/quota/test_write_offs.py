"""Charges for what did not arrive are taken back: once, to where they came from, in every order (P1, P2)."""

import asyncio
import time

import asyncpg
import msgspec
import pytest

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    end_windows,
    overdue,
    release,
    reserve,
    settle,
    submit_together,
    write_off,
)
from odea_contracts import subjects
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.plans import Account, TopUp
from odea_contracts.quota import (
    HoldUnknown,
    Released,
    ReleasedBefore,
    Reserved,
    Settled,
    SettledBefore,
)
from odea_contracts.writeoffs import WriteOffEvent, WrittenOff
from odea_quota.audit import find_differences
from odea_quota.book import Expire
from odea_quota.ledger import Answer, Command
from odea_runtime.ids import new_uuid

_KEY = ("hall", "hall_key")
_HOLD = "0000000a-0000-4000-8000-000000000000"
_TOPUP = "aaaaaaaa-0000-4000-8000-000000000000"


async def charge(ledger: Ledger, units: int = 30, *accounts: str, held: int = 50) -> None:
    assert isinstance(await ledger.submit(reserve(held, *accounts, hold_id=_HOLD)), Reserved)
    assert await ledger.submit(settle(_HOLD, units)) == Settled(hold_id=_HOLD, units=units)


async def let_pass(sql: asyncpg.Connection, seconds: int) -> None:
    """Let everything on record have happened so much earlier; days in UTC do not change with it."""
    await sql.execute(
        f"""
        ALTER TABLE quota.resolutions DISABLE TRIGGER USER;
        ALTER TABLE quota.entries DISABLE TRIGGER USER;
        UPDATE quota.resolutions SET resolved_at = resolved_at - interval '{seconds} s';
        UPDATE quota.entries SET at = at - interval '{seconds} s';
        """
    )


async def usage(sql: asyncpg.Connection) -> list[tuple[int, int]]:
    return [(row["units"], row["requests"]) for row in await sql.fetch("SELECT units, requests FROM quota.usage_days")]


async def written_off(sql: asyncpg.Connection) -> list[WriteOffEvent]:
    rows = await sql.fetch("SELECT body FROM quota.outbox WHERE subject = $1", subjects.QUOTA_WRITTEN_OFF)
    return [msgspec.json.decode(row["body"], type=WriteOffEvent) for row in rows]


async def test_a_charge_is_taken_back_on_both_accounts_and_everywhere_it_is_told(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account()
    await ledger.open_account("hall_key", units=60)
    await charge(ledger, 30, *_KEY)
    assert await ledger.submit(write_off(_HOLD)) == WrittenOff(hold_id=_HOLD, units=30)
    assert await ledger.used_and_held() == await ledger.used_and_held("hall_key") == (0, 0, 0)
    assert await usage(sql) == [(0, 1)]
    [event] = await written_off(sql)
    assert (event.hold_id, event.accounts, event.units, event.key_id) == (_HOLD, _KEY, 30, "key")
    [settled_at_ms] = [
        msgspec.json.decode(row["body"])["at_ms"]
        for row in await sql.fetch("SELECT body FROM quota.outbox WHERE subject = $1", subjects.QUOTA_SETTLED)
    ]
    assert event.settled_at_ms == settled_at_ms <= event.at_ms
    await balances_are_true(sql, ledger)
    assert isinstance(await ledger.submit(reserve(60, *_KEY)), Reserved)


async def test_a_second_time_changes_nothing_and_is_answered_like_the_first(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account()
    await charge(ledger)
    await ledger.open_account("foyer")
    answers = [await ledger.submit(write_off(_HOLD)) for _ in range(3)]
    answers += await ledger.store.apply([write_off(_HOLD), reserve(5, "foyer"), write_off(_HOLD)])
    assert answers[:4] + answers[5:] == [WrittenOff(hold_id=_HOLD, units=30)] * 5
    assert len(await written_off(sql)) == 1
    await balances_are_true(sql, ledger)


async def test_of_many_at_once_one_takes_it_back(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    await ledgers[0].open_account()
    await charge(ledgers[0])
    commands: list[Command] = [write_off(_HOLD) for _ in range(40)]
    assert await submit_together(ledgers, commands) == [WrittenOff(hold_id=_HOLD, units=30)] * 40
    assert len(await written_off(sql)) == 1
    await balances_are_true(sql, ledgers[0])


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize(
    ("commands", "answers"),
    [
        (
            [write_off(_HOLD), settle(_HOLD, 30)],
            [WrittenOff(hold_id=_HOLD, units=0), SettledBefore(hold_id=_HOLD, units=0)],
        ),
        (
            [settle(_HOLD, 30), write_off(_HOLD), settle(_HOLD, 30), write_off(_HOLD)],
            [
                Settled(hold_id=_HOLD, units=30),
                WrittenOff(hold_id=_HOLD, units=30),
                SettledBefore(hold_id=_HOLD, units=0),
                WrittenOff(hold_id=_HOLD, units=30),
            ],
        ),
        ([settle(_HOLD, 0), write_off(_HOLD)], [Settled(hold_id=_HOLD, units=0), WrittenOff(hold_id=_HOLD, units=0)]),
        ([release(_HOLD), write_off(_HOLD)], [Released(hold_id=_HOLD), ReleasedBefore(hold_id=_HOLD)]),
        ([write_off(new_uuid())], None),
    ],
    ids=["before the settlement", "between two", "of nothing", "of a released hold", "of no hold"],
)
async def test_in_every_order_nothing_is_charged(
    ledger: Ledger, sql: asyncpg.Connection, commands: list[Command], answers: list[Answer] | None, together: bool
) -> None:
    """A settlement that was under way may arrive after the write-off that it made necessary."""
    await ledger.open_account()
    await ledger.submit(reserve(50, hold_id=_HOLD))
    if together:
        found = await ledger.store.apply(commands)
    else:
        found = [await ledger.submit(command) for command in commands]
    if answers is None:
        assert found == [HoldUnknown(hold_id=commands[0].hold_id)]
        await ledger.submit(release(_HOLD))
    else:
        assert found == answers
    assert await ledger.used_and_held() == (0, 0, 0)
    await balances_are_true(sql, ledger)


async def test_what_expired_can_not_be_charged_late_any_more(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await ledger.submit(reserve(50, hold_id=_HOLD))
    await overdue(sql)
    await ledger.submit(Expire(_HOLD))
    assert await ledger.submit(write_off(_HOLD)) == WrittenOff(hold_id=_HOLD, units=0)
    assert await ledger.submit(settle(_HOLD, 30)) == SettledBefore(hold_id=_HOLD, units=0)
    assert await ledger.used_and_held() == (0, 0, 0)
    await balances_are_true(sql, ledger)


@pytest.mark.parametrize("lapsed", [False, True])
async def test_a_top_up_gets_its_units_back(ledger: Ledger, sql: asyncpg.Connection, lapsed: bool) -> None:
    """One that is used up or lapsed is not even looked at otherwise. Two sources, so two entries from one provider."""
    await ledger.open_account()
    for number, units in enumerate((12, 8)):
        expires_at_ms = time.time_ns() // 1_000_000 + 3_600_000 + number
        command = TopUp(topup_id=f"{_TOPUP[:-1]}{number}", account_id="hall", units=units, expires_at_ms=expires_at_ms)
        assert isinstance(await ledger.accounts.top_up(command), Account)
    await charge(ledger, 30)
    assert await ledger.used_and_held() == (10, 0, 0)
    if lapsed:
        await sql.execute("UPDATE quota.topups SET expires_at = clock_timestamp() - interval '1 s'")
    assert await ledger.submit(write_off(_HOLD)) == WrittenOff(hold_id=_HOLD, units=30)
    balance = await ledger.balance()
    assert (balance.used, balance.topup_remaining) == (0, 0 if lapsed else 20)
    assert sorted(await sql.fetch("SELECT units_left, units_held FROM quota.topups")) == [(8, 0), (12, 0)]
    await balances_are_true(sql, ledger)


async def test_a_charge_is_taken_back_whole_or_not_at_all(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """It takes two statements: where the second fails, the first is undone, and asking again finds all as it was."""
    await ledger.open_account()
    await charge(ledger)
    await sql.execute("ALTER TABLE quota.reversals ADD CONSTRAINT full_up CHECK (units < 0)")
    assert await ledger.submit(write_off(_HOLD)) == failure(ErrorCode.INTERNAL_ERROR)
    assert await ledger.used_and_held() == (30, 0, 0)
    assert (await usage(sql), await written_off(sql)) == ([(30, 1)], [])
    await balances_are_true(sql, ledger)
    await sql.execute("ALTER TABLE quota.reversals DROP CONSTRAINT full_up")
    assert await ledger.submit(write_off(_HOLD)) == WrittenOff(hold_id=_HOLD, units=30)
    assert await ledger.used_and_held() == (0, 0, 0)


async def test_a_window_that_ended_meanwhile_is_left_alone(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """What was used in it counts no more, so the new window owes nothing; the day that it was used on does."""
    await ledger.open_account()
    await charge(ledger)
    await end_windows(sql)
    other = reserve(40)
    assert isinstance(await ledger.submit(other), Reserved)
    await ledger.submit(settle(other.hold_id, 25))
    assert await ledger.submit(write_off(_HOLD)) == WrittenOff(hold_id=_HOLD, units=30)
    assert await ledger.used_and_held() == (25, 0, 0)
    assert await usage(sql) == [(25, 2)]
    assert await find_differences(ledger.database) == []


async def test_a_charge_of_long_ago_stands(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await charge(ledger)
    await let_pass(sql, 3601)
    assert await ledger.submit(write_off(_HOLD)) == SettledBefore(hold_id=_HOLD, units=30)
    assert (await ledger.used_and_held())[0] == 30
    assert await written_off(sql) == []


@pytest.mark.parametrize(
    ("tampering", "checks"),
    [
        ("UPDATE quota.reversals SET units = units - 1", {"charges", "usage_days"}),
        ("DELETE FROM quota.reversals", {"balances", "charges", "usage_days"}),
        ("DELETE FROM quota.entries WHERE debit LIKE 'provider:%'", {"balances", "charges"}),
        ("UPDATE quota.usage_days SET units = 30", {"usage_days"}),
        ("UPDATE quota.balances SET used = 30", {"balances"}),
    ],
)
async def test_the_audit_sees_what_was_not_taken_back(
    ledger: Ledger, sql: asyncpg.Connection, tampering: str, checks: set[str]
) -> None:
    await ledger.open_account()
    await charge(ledger)
    await ledger.submit(write_off(_HOLD))
    assert await find_differences(ledger.database) == []
    for table in ("entries", "reversals"):
        await sql.execute(f"ALTER TABLE quota.{table} DISABLE TRIGGER USER")
    await sql.execute(tampering)
    assert {one.check for one in await find_differences(ledger.database)} == checks


async def test_reversals_are_never_changed_and_never_two(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """P2 a second time, in the database."""
    await ledger.open_account()
    await charge(ledger)
    await ledger.submit(write_off(_HOLD))
    for change in (
        "UPDATE quota.reversals SET units = 1",
        "DELETE FROM quota.reversals",
        "TRUNCATE quota.reversals",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await sql.execute(change)
    with pytest.raises(asyncpg.UniqueViolationError):
        await sql.execute("INSERT INTO quota.reversals SELECT * FROM quota.reversals")


async def test_a_write_off_and_a_settlement_at_once_end_with_nothing_charged(
    ledgers: list[Ledger], sql: asyncpg.Connection
) -> None:
    await ledgers[0].open_account(units=10_000)
    holds = [new_uuid() for _ in range(30)]
    for hold_id in holds:
        await ledgers[0].submit(reserve(50, hold_id=hold_id))
    commands: list[Command] = [make(hold_id) for hold_id in holds for make in (settle, write_off)]
    await submit_together(ledgers, commands)
    await asyncio.gather(*(ledgers[0].submit(write_off(hold_id)) for hold_id in holds))
    assert await ledgers[0].used_and_held() == (0, 0, 0)
    await balances_are_true(sql, ledgers[0])
