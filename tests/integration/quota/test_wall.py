"""The wall behind the rules: what a fault in the code, or a hand in the database, can't do (P1, P2)."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from integration.quota.harness import Ledger, open_ledger, release, reserve, settle
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.quota import Reserved
from odea_quota.accounts import Account
from support.databases import Databases

_PLAN = 'INSERT INTO quota.plans (name, units, "window", requests_per_minute, requests_burst) VALUES '
_BALANCE = 'INSERT INTO quota.balances (account_id, "window", requests_burst, window_started_at) VALUES '
_TOPUP = "INSERT INTO quota.topups (topup_id, account_id, units, units_left, units_held, expires_at) VALUES "
_HOLD = (
    "INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)"
    " VALUES "
)
_RESOLUTION = (
    "INSERT INTO quota.resolutions (kind, late, units_held, units_settled, outcome, resolved_at, hold_id, account_ids,"
    " reserved_at, request_id, tenant_id, key_id) SELECT *, now(), gen_random_uuid(), '{hall}', now(), '', '', '' FROM "
)
_REVERSAL = (
    "INSERT INTO quota.reversals (hold_id, reversed_at, charged_at, account_ids, units, request_id, tenant_id, key_id)"
    " VALUES "
)
_CARRYOVER = "INSERT INTO quota.carryovers (carryover_id, account_id, tenant_id, units, carried_at) VALUES "
_ENTRY = "INSERT INTO quota.entries (at, cause_id, debit, credit, units) VALUES "

ATTEMPTS = {
    "plans_window_known": _PLAN + "('x', 1, 'year', 1, 1)",
    "plans_units_not_negative": _PLAN + "('x', -1, 'day', 1, 1)",
    "plans_rates_positive": _PLAN + "('x', 1, 'day', NULL, 0)",
    "accounts_plan_exists": "UPDATE quota.accounts SET plan = 'nowhere'",
    "balances_account_exists": _BALANCE + "('nobody', 'day', 1, now())",
    "balances_no_overspend": "UPDATE quota.balances SET used = 51, held = 50, in_flight = 1",
    "balances_not_negative": "UPDATE quota.balances SET used = -1",
    "balances_held_needs_holds": "UPDATE quota.balances SET held = 1, in_flight = 0",
    "topups_account_exists": _TOPUP + "(gen_random_uuid(), 'nobody', 1, 1, 0, now())",
    "topups_no_overspend": _TOPUP + "(gen_random_uuid(), 'hall', 10, 6, 5, now())",
    "topups_not_negative": _TOPUP + "(gen_random_uuid(), 'hall', 10, -1, 5, now())",
    "holds_units_positive": _HOLD + "(gen_random_uuid(), '{hall}', 0, now(), now(), '', '', '')",
    "holds_accounts_named": _HOLD + "(gen_random_uuid(), '{}', 1, now(), now(), '', '', '')",
    "resolutions_kind_known": _RESOLUTION + "(VALUES ('lost', false, 5, 0, NULL)) AS v",
    "resolutions_outcome_iff_settled": _RESOLUTION + "(VALUES ('settled', false, 5, 0, NULL)) AS v",
    "resolutions_late_is_settled": _RESOLUTION + "(VALUES ('expired', true, 5, 0, NULL)) AS v",
    "resolutions_within_hold": _RESOLUTION + "(VALUES ('settled', false, 5, 6, 'completed')) AS v",
    "resolutions_charge_is_settled": _RESOLUTION + "(VALUES ('released', false, 5, 5, NULL)) AS v",
    "resolutions_written_off_is_free": _RESOLUTION + "(VALUES ('settled', false, 5, 1, 'written_off')) AS v",
    "reversals_units_positive": _REVERSAL + "(gen_random_uuid(), now(), now(), '{hall}', 0, '', '', '')",
    "reversals_after_charge": _REVERSAL + "(gen_random_uuid(), now(), now() + interval '1 s', '{hall}', 1, '', '', '')",
    "carryovers_account_exists": _CARRYOVER + "(gen_random_uuid(), 'nobody', 'ten', 1, now())",
    "carryovers_units_positive": _CARRYOVER + "(gen_random_uuid(), 'hall', 'ten', 0, now())",
    "entries_units_positive": _ENTRY + "(now(), gen_random_uuid(), 'hall', 'provider:piper', 0)",
    "entries_two_accounts": _ENTRY + "(now(), gen_random_uuid(), 'hall', 'hall', 1)",
}


@pytest.fixture(scope="module")
async def wall_dsn(databases: Databases) -> str:
    """One database for all attempts: each fails, so none changes it."""
    return await databases.create("quota")


@pytest.fixture(scope="module")
async def wall(wall_dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    async with open_ledger(wall_dsn) as ledger:
        await ledger.open_account(units=100)
        kept = await ledger.submit(reserve(50))
        assert isinstance(kept, Reserved)
        await ledger.submit(settle(kept.hold_id, 20))
        await ledger.submit(release((await _reserved(ledger)).hold_id))
    connection = await asyncpg.connect(wall_dsn)
    yield connection
    await connection.close()


async def _reserved(ledger: Ledger) -> Reserved:
    answer = await ledger.submit(reserve(10))
    assert isinstance(answer, Reserved)
    return answer


@pytest.mark.parametrize("constraint", ATTEMPTS)
async def test_the_database_refuses_by_name(wall: asyncpg.Connection, constraint: str) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await wall.execute(ATTEMPTS[constraint])
    assert caught.value.as_dict()["constraint_name"] == constraint


async def test_every_constraint_is_put_to_the_test(wall: asyncpg.Connection) -> None:
    rows = await wall.fetch(
        "SELECT conname FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid"
        " WHERE c.connamespace = 'quota'::regnamespace AND contype IN ('c', 'f') AND NOT t.relispartition"
    )
    assert {row["conname"] for row in rows} == ATTEMPTS.keys()


@pytest.mark.parametrize("table", ["resolutions", "entries"])
@pytest.mark.parametrize("statement", ["UPDATE quota.{} SET {} = 1", "DELETE FROM quota.{}"])
async def test_the_record_is_only_added_to(wall: asyncpg.Connection, table: str, statement: str) -> None:
    column = {"resolutions": "units_settled", "entries": "units"}[table]
    with pytest.raises(asyncpg.RestrictViolationError, match=f"rows of {table}_.* are never changed"):
        await wall.execute(statement.format(table, column))
    # Not by way of a partition either.
    partition = await wall.fetchval(f"SELECT tableoid::regclass::text FROM quota.{table}")
    with pytest.raises(asyncpg.RestrictViolationError):
        await wall.execute(f"DELETE FROM {partition}")


@pytest.mark.parametrize("table", ["resolutions", "entries"])
async def test_the_record_can_not_be_emptied(wall: asyncpg.Connection, table: str) -> None:
    """Nor any part of it, those of months to come included."""
    await wall.execute("SELECT quota.ensure_partition(now() + interval '1 year')")
    partitions = await wall.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass", f"quota.{table}"
    )
    assert len(partitions) == 3
    for name in (f"quota.{table}", *(row["name"] for row in partitions)):
        with pytest.raises(asyncpg.RestrictViolationError):
            await wall.execute(f"TRUNCATE {name}")
    with pytest.raises(asyncpg.RestrictViolationError):
        await wall.execute("TRUNCATE quota.holds, quota.resolutions, quota.entries CASCADE")


async def test_a_fault_in_the_rules_meets_the_wall_and_fails_alone(
    ledger: Ledger, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1 a second time: rules that think that everything is free can't spend more than the limit."""

    def endless(_account: Account, _now_us: int) -> int:
        return 10**6

    await ledger.open_account(units=100)
    await ledger.open_account("stage", units=100)
    monkeypatch.setattr(Account, "remaining", endless)
    granted = [await ledger.submit(reserve(40)) for _ in range(4)]
    assert [type(answer) for answer in granted] == [Reserved, Reserved, Failure, Failure]
    assert isinstance(granted[3], Failure)
    assert granted[3].code is ErrorCode.INTERNAL_ERROR
    assert await ledger.used_and_held() == (0, 80, 2)
    assert isinstance(await ledger.submit(reserve(40, "stage")), Reserved)
    assert await sql.fetchval("SELECT count(*) FROM quota.holds") == 3
