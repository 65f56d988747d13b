"""Every command and its repetition through batcher and database: the answer, and the rows that it leaves (P1, P2)."""

import json
from typing import Any

import asyncpg
import pytest

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    extend,
    overdue,
    release,
    reserve,
    settle,
)
from odea_contracts import subjects
from odea_contracts.plans import TopUp
from odea_contracts.quota import (
    Denied,
    ExceedsHold,
    Expired,
    Extended,
    HoldConflict,
    HoldUnknown,
    Limit,
    Outcome,
    Released,
    ReleasedBefore,
    Reserved,
    Settled,
    SettledBefore,
)
from odea_quota.audit import find_differences
from odea_quota.book import Expire
from odea_quota.ledger import Answer, Command
from odea_runtime.ids import new_uuid

_ENDED_LONG_AGO = """
INSERT INTO quota.resolutions (resolved_at, hold_id, kind, account_ids, units_held, units_settled, outcome, reserved_at,
    request_id, tenant_id, key_id)
VALUES (now() - $2 * interval '1 day', $1, 'settled', '{hall}', 50, 30, 'completed', now(), '', '', '')
"""
_TABLES = ("balances", "holds", "topups", "resolutions", "entries", "usage_days", "outbox")


async def _rows(sql: asyncpg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that commands may change."""
    rows = {table: await sql.fetch(f"SELECT * FROM quota.{table} ORDER BY 1, 2") for table in _TABLES}
    return {table: [tuple(row) for row in found] for table, found in rows.items()}


async def _changes_nothing(ledger: Ledger, sql: asyncpg.Connection, command: Command) -> Answer:
    before = await _rows(sql)
    answer = await ledger.submit(command)
    assert await _rows(sql) == before
    return answer


async def _open(ledger: Ledger, units: int = 50, *accounts: str, lease_ms: int = 60_000) -> str:
    answer = await ledger.submit(reserve(units, *accounts, lease_ms=lease_ms))
    assert isinstance(answer, Reserved), answer
    return answer.hold_id


async def test_a_hold_is_on_record_before_it_is_answered(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    command = reserve(50, request_id="req-1", lease_ms=90_000)
    answer = await ledger.submit(command)
    assert isinstance(answer, Reserved)
    row = await sql.fetchrow("SELECT *, extract(epoch FROM lease_ends_at) * 1000 AS ends_ms FROM quota.holds")
    assert row is not None
    assert (str(row["hold_id"]), row["account_ids"], row["units"]) == (command.hold_id, ["hall"], 50)
    assert (row["request_id"], row["tenant_id"], row["key_id"], row["topups"]) == ("req-1", "ten", "key", None)
    assert row["ends_ms"] == answer.expires_at_ms
    assert (row["lease_ends_at"] - row["reserved_at"]).total_seconds() == 90
    assert answer.balances[0] == await ledger.balance()
    assert await ledger.used_and_held() == (0, 50, 1)
    assert await _changes_nothing(ledger, sql, command) == answer


async def test_the_same_id_for_something_else_is_a_conflict(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await ledger.open_account("stage")
    hold_id = await _open(ledger)
    for other in (reserve(49, hold_id=hold_id), reserve(50, "stage", hold_id=hold_id)):
        assert await _changes_nothing(ledger, sql, other) == HoldConflict(hold_id=hold_id)


async def test_a_settlement_leaves_a_full_record_an_entry_and_an_event(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    hold_id = await _open(ledger)
    command = settle(hold_id, 30)
    assert await ledger.submit(command) == Settled(hold_id=hold_id, units=30)
    assert await ledger.used_and_held() == (30, 0, 0)
    rows = await _rows(sql)
    assert rows["holds"] == []
    assert rows["usage_days"][0][0] == "ten"
    assert rows["usage_days"][0][2:] == ("key", 30, 1)
    record = await sql.fetchrow("SELECT * FROM quota.resolutions")
    entry = await sql.fetchrow("SELECT * FROM quota.entries")
    event = await sql.fetchrow("SELECT * FROM quota.outbox")
    assert record is not None
    assert entry is not None
    assert event is not None
    assert (str(record["hold_id"]), record["kind"], record["late"]) == (hold_id, "settled", False)
    assert (record["units_held"], record["units_settled"], record["provider_units"]) == (50, 30, 31)
    told = [record[name] for name in ("outcome", "provider", "model", "voice", "request_id", "tenant_id", "key_id")]
    assert told == ["completed", "piper", "plain", "vera", "req", "ten", "key"]
    assert (str(entry["cause_id"]), entry["debit"], entry["credit"], entry["units"]) == (
        hold_id,
        "hall",
        "provider:piper",
        30,
    )
    assert event["subject"] == subjects.QUOTA_SETTLED
    body = json.loads(event["body"])
    assert (body["hold_id"], body["units_settled"], body["provider_units"]) == (hold_id, 30, 31)
    assert (body["accounts"], body["outcome"]) == (["hall"], "completed")
    assert await _changes_nothing(ledger, sql, command) == Settled(hold_id=hold_id, units=30)
    await balances_are_true(sql, ledger)


async def test_every_second_attempt_gets_its_own_answer(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=200)
    settled, released, expired = [await _open(ledger) for _ in range(3)]
    await ledger.submit(settle(settled))
    await ledger.submit(release(released))
    await overdue(sql, expired)
    assert await ledger.submit(Expire(expired)) == Expired(hold_id=expired)
    before, back = SettledBefore(hold_id=settled, units=30), ReleasedBefore(hold_id=released)
    for command, answer in (
        (reserve(hold_id=settled), before),
        (settle(settled, 29), before),
        (release(settled), before),
        (extend(settled), before),
        (Expire(settled), before),
        (reserve(hold_id=released), back),
        (settle(released), back),
        (release(released), Released(hold_id=released)),
        (extend(released), back),
        (Expire(released), back),
        (reserve(hold_id=expired), Expired(hold_id=expired)),
        (release(expired), Expired(hold_id=expired)),
        (extend(expired), Expired(hold_id=expired)),
        (Expire(expired), Expired(hold_id=expired)),
        (settle(expired, 51), ExceedsHold(hold_id=expired, held=50)),
    ):
        assert await _changes_nothing(ledger, sql, command) == answer
    await balances_are_true(sql, ledger)


async def test_a_hold_that_never_was_is_unknown(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    nobody = new_uuid()
    for command in (settle(nobody), release(nobody), extend(nobody), Expire(nobody)):
        assert await _changes_nothing(ledger, sql, command) == HoldUnknown(hold_id=nobody)


async def test_a_release_gives_everything_back(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    hold_id = await _open(ledger)
    assert await ledger.submit(release(hold_id)) == Released(hold_id=hold_id)
    assert await ledger.used_and_held() == (0, 0, 0)
    row = await sql.fetchrow("SELECT kind, units_held, units_settled, outcome FROM quota.resolutions")
    assert row is not None
    assert tuple(row) == ("released", 50, 0, None)
    assert await sql.fetchval("SELECT subject FROM quota.outbox") == subjects.QUOTA_RELEASED
    assert await sql.fetchval("SELECT count(*) FROM quota.entries") == 0
    assert await _changes_nothing(ledger, sql, release(hold_id)) == Released(hold_id=hold_id)


async def test_a_lease_grows_and_never_shrinks(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    hold_id = await _open(ledger)
    answer = await ledger.submit(extend(hold_id, 300_000))
    assert isinstance(answer, Extended)
    ends_ms = await sql.fetchval("SELECT extract(epoch FROM lease_ends_at) * 1000 FROM quota.holds")
    assert ends_ms == answer.expires_at_ms
    assert await _changes_nothing(ledger, sql, extend(hold_id, 1_000)) == answer
    assert await _changes_nothing(ledger, sql, Expire(hold_id)) == answer


async def test_a_hold_is_raised_as_far_as_the_account_reaches(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """P1: what another provider may bill is held before it is asked, and a refusal changes nothing."""
    await ledger.open_account()
    hold_id = await _open(ledger)
    raised = await ledger.submit(extend(hold_id, units=80))
    assert isinstance(raised, Extended)
    assert raised.units == 80
    assert await ledger.used_and_held() == (0, 80, 1)
    again = await _changes_nothing(ledger, sql, extend(hold_id, 1_000, units=80))
    assert again == raised
    refused = await _changes_nothing(ledger, sql, extend(hold_id, 600_000, units=101))
    assert isinstance(refused, Denied)
    assert refused.limit is Limit.UNITS
    assert await ledger.submit(settle(hold_id, 75)) == Settled(hold_id=hold_id, units=75)
    assert await ledger.used_and_held() == (75, 0, 0)
    await balances_are_true(sql, ledger)


async def test_a_late_settlement_is_charged_once_and_both_ends_stay_on_record(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account()
    hold_id = await _open(ledger)
    await overdue(sql)
    await ledger.submit(Expire(hold_id))
    late = Settled(hold_id=hold_id, units=30, late=True)
    assert await ledger.submit(settle(hold_id)) == late
    assert await _changes_nothing(ledger, sql, settle(hold_id)) == late
    assert await _changes_nothing(ledger, sql, settle(hold_id, 29)) == SettledBefore(hold_id=hold_id, units=30)
    rows = await sql.fetch("SELECT kind, late, units_settled FROM quota.resolutions ORDER BY resolved_at")
    assert [tuple(row) for row in rows] == [("expired", False, 0), ("settled", True, 30)]
    assert await ledger.used_and_held() == (30, 0, 0)
    await balances_are_true(sql, ledger)


async def test_a_late_settlement_without_room_is_refused(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """P1 before P2: what others took since then is theirs."""
    await ledger.open_account()
    hold_id = await _open(ledger, 60)
    await overdue(sql)
    await ledger.submit(Expire(hold_id))
    await _open(ledger, 80)
    assert await _changes_nothing(ledger, sql, settle(hold_id, 21)) == Expired(hold_id=hold_id)
    assert await ledger.submit(settle(hold_id, 20)) == Settled(hold_id=hold_id, units=20, late=True)
    assert await ledger.used_and_held() == (20, 80, 1)


async def test_what_is_written_off_is_free_and_keeps_the_provider_s_figure(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account()
    hold_id = await _open(ledger)
    await ledger.submit(settle(hold_id, 0, Outcome.WRITTEN_OFF))
    row = await sql.fetchrow("SELECT kind, outcome, units_settled, provider_units FROM quota.resolutions")
    assert row is not None
    assert tuple(row) == ("settled", "written_off", 0, 1)
    assert await ledger.used_and_held() == (0, 0, 0)


async def test_a_tenant_and_a_key_are_taken_from_together_or_not_at_all(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account("tenant")
    await ledger.open_account("budget", units=40)
    refused = await _changes_nothing(ledger, sql, reserve(41, "tenant", "budget"))
    assert isinstance(refused, Denied)
    assert (refused.limit, refused.account_id) == (Limit.UNITS, "budget")
    hold_id = await _open(ledger, 40, "tenant", "budget")
    assert await ledger.used_and_held("tenant") == await ledger.used_and_held("budget") == (0, 40, 1)
    await ledger.submit(settle(hold_id, 25))
    assert await ledger.used_and_held("tenant") == await ledger.used_and_held("budget") == (25, 0, 0)
    rows = await sql.fetch("SELECT debit, credit, units FROM quota.entries ORDER BY debit")
    assert [tuple(row) for row in rows] == [("budget", "budget:tenant", 25), ("tenant", "provider:piper", 25)]
    await balances_are_true(sql, ledger)


@pytest.mark.parametrize(
    ("limit", "plan"),
    [
        (Limit.UNITS, {"units": 49}),
        (Limit.IN_FLIGHT, {"in_flight_max": 1, "units": 100}),
        (Limit.REQUESTS, {"requests_per_minute": 1, "requests_burst": 1}),
        (Limit.ACCOUNT, None),
    ],
)
async def test_a_refusal_changes_no_row(
    ledger: Ledger, sql: asyncpg.Connection, limit: Limit, plan: dict[str, Any] | None
) -> None:
    if plan is not None:
        await ledger.open_account(**plan)
    if limit in (Limit.IN_FLIGHT, Limit.REQUESTS):
        await _open(ledger, 1)
    answer = await _changes_nothing(ledger, sql, reserve(50))
    assert isinstance(answer, Denied)
    assert (answer.limit, answer.account_id) == (limit, "hall")


async def test_units_of_a_top_up_are_held_charged_and_given_back_on_record(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account(units=10)
    topup_id = new_uuid()
    await ledger.accounts.top_up(TopUp(topup_id=topup_id, account_id="hall", units=60, expires_at_ms=2**42))
    hold_id = await _open(ledger, 65)
    assert await sql.fetchval("SELECT topups FROM quota.holds") == json.dumps({topup_id: 60})
    assert await ledger.used_and_held() == (0, 65, 1)
    await ledger.submit(settle(hold_id, 35))
    balance = await ledger.balance()
    assert (balance.used, balance.held, balance.topup_remaining, balance.remaining) == (0, 0, 25, 35)
    assert await sql.fetchval("SELECT units_left FROM quota.topups") == 25
    assert await find_differences(ledger.database) == []


async def test_ended_holds_are_remembered_for_a_month_and_then_forgotten(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account()
    remembered, forgotten = new_uuid(), new_uuid()
    for hold_id, days in ((remembered, 31), (forgotten, 33)):
        await sql.execute("SELECT quota.ensure_partition(now() - $1 * interval '1 day')", days)
        await sql.execute(_ENDED_LONG_AGO, hold_id, days)
    assert await ledger.submit(settle(remembered)) == Settled(hold_id=remembered, units=30)
    assert await ledger.submit(settle(forgotten)) == HoldUnknown(hold_id=forgotten)
