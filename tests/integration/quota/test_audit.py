"""The audit: silent over every history of the service, exact about what was done behind its back (P1, P2)."""

import json
import random
import time
from collections import defaultdict

import asyncpg
import pytest

from integration.quota.harness import Ledger, end_windows, overdue, release, reserve, settle
from integration.quota.replicas import environ_of, run
from odea_contracts.plans import Account, TopUp
from odea_contracts.quota import Released, Reserved, Settled
from odea_quota.audit import Difference, find_differences
from odea_quota.book import Expire
from odea_quota.ledger import Command
from odea_runtime.ids import new_uuid
from support.databases import Databases

_KEY = ("hall", "hall_key")
_TOPUP = "aaaaaaaa-0000-4000-8000-000000000000"
_PAID, _OPEN, _LATE, _FREE = (f"0000000{number}-0000-4000-8000-000000000000" for number in range(1, 5))


async def open_accounts(ledger: Ledger) -> None:
    await ledger.open_account(units=1_000)
    await ledger.open_account("hall_key", units=500)
    await top_up(ledger, _TOPUP, 60)


async def top_up(ledger: Ledger, topup_id: str, units: int) -> None:
    expires_at_ms = time.time_ns() // 1_000_000 + 3_600_000
    command = TopUp(topup_id=topup_id, account_id="hall", units=units, expires_at_ms=expires_at_ms)
    assert isinstance(await ledger.accounts.top_up(command), Account)


@pytest.fixture
async def history(ledger: Ledger, sql: asyncpg.Connection) -> Ledger:
    """A key's hold that took 30 of a top-up, an open one on the rest and the plan, a late one, and one released."""
    await open_accounts(ledger)
    assert isinstance(await ledger.submit(reserve(50, *_KEY, hold_id=_PAID)), Reserved)
    assert isinstance(await ledger.submit(settle(_PAID, 30)), Settled)
    assert isinstance(await ledger.submit(reserve(40, hold_id=_OPEN)), Reserved)
    await ledger.submit(reserve(7, hold_id=_LATE))
    await overdue(sql, _LATE)
    await ledger.submit(Expire(_LATE))
    assert await ledger.submit(settle(_LATE, 7)) == Settled(hold_id=_LATE, units=7, late=True)
    await ledger.submit(reserve(5, hold_id=_FREE))
    assert isinstance(await ledger.submit(release(_FREE)), Released)
    assert await find_differences(ledger.database) == []
    return ledger


def subjects(differences: list[Difference]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for one in differences:
        found[one.check].add(one.subject.replace(time.strftime("%Y-%m-%d", time.gmtime()), "today"))
    return dict(found)


_BALANCE = {"balances": {"hall"}}
_DAY = {"usage_days": {"ten today key"}}
_LOWERED_CEILING = """
ALTER TABLE quota.balances DROP CONSTRAINT balances_no_overspend;
UPDATE quota.balances SET units_ceiling = used + held - 1 WHERE account_id = 'hall'
"""
_OPENED_AGAIN = f"""
INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
SELECT hold_id, account_ids, units_held, now(), now(), '', 'ten', 'key' FROM quota.resolutions WHERE hold_id = '{_FREE}'
"""
_ENDED_TWICE = f"""
INSERT INTO quota.resolutions (resolved_at, hold_id, kind, account_ids, units_held, units_settled, reserved_at,
    request_id, tenant_id, key_id)
SELECT resolved_at, hold_id, 'expired', account_ids, units_held, 0, reserved_at, request_id, tenant_id, key_id
FROM quota.resolutions WHERE hold_id = '{_FREE}'
"""
_TAMPERINGS = [
    ("UPDATE quota.balances SET used = used + 1 WHERE account_id = 'hall'", _BALANCE),
    ("UPDATE quota.balances SET used = used - 1 WHERE account_id = 'hall'", _BALANCE),
    ("UPDATE quota.balances SET held = held - 1 WHERE account_id = 'hall'", _BALANCE),
    ("UPDATE quota.balances SET in_flight = in_flight + 1 WHERE account_id = 'hall'", _BALANCE),
    ("UPDATE quota.balances SET used = 0 WHERE account_id = 'hall_key'", {"balances": {"hall_key"}}),
    (
        _LOWERED_CEILING,
        _BALANCE,
    ),
    ("UPDATE quota.topups SET units_held = units_held - 1", {"topups": {_TOPUP}}),
    ("UPDATE quota.topups SET units = units + 1", {"topups": {_TOPUP}}),
    ("DELETE FROM quota.entries WHERE debit = 'operator'", {"topups": {_TOPUP}}),
    (f"DELETE FROM quota.entries WHERE debit = 'topup:{_TOPUP}'", {"topups": {_TOPUP}, "charges": {_PAID}}),
    (f"DELETE FROM quota.entries WHERE cause_id = '{_LATE}'", _BALANCE | {"charges": {_LATE}}),
    (
        "UPDATE quota.entries SET units = units + 1 WHERE debit = 'hall_key'",
        {"balances": {"hall_key"}, "charges": {_PAID}},
    ),
    (f"UPDATE quota.entries SET cause_id = '{_FREE}' WHERE cause_id = '{_LATE}'", {"charges": {_LATE, _FREE}}),
    (f"DELETE FROM quota.holds WHERE hold_id = '{_OPEN}'", _BALANCE | {"topups": {_TOPUP}}),
    (f"UPDATE quota.holds SET units = units + 1 WHERE hold_id = '{_OPEN}'", _BALANCE),
    ("UPDATE quota.holds SET topups = NULL", _BALANCE | {"topups": {_TOPUP}}),
    (
        f"UPDATE quota.resolutions SET units_settled = units_settled - 1 WHERE hold_id = '{_PAID}'",
        {"charges": {_PAID}} | _DAY,
    ),
    (f"DELETE FROM quota.resolutions WHERE hold_id = '{_PAID}'", {"charges": {_PAID}} | _DAY),
    (
        _OPENED_AGAIN,
        _BALANCE | {"endings": {_FREE}},
    ),
    (
        _ENDED_TWICE,
        {"endings": {_FREE}},
    ),
    ("UPDATE quota.usage_days SET units = units + 1", _DAY),
    ("UPDATE quota.usage_days SET requests = requests + 1", _DAY),
    ("UPDATE quota.usage_days SET key_id = 'other'", {"usage_days": {"ten today key", "ten today other"}}),
    ("DELETE FROM quota.usage_days", _DAY),
]


@pytest.mark.parametrize(("statement", "expected"), _TAMPERINGS)
async def test_what_was_done_behind_its_back_is_named_exactly(
    history: Ledger, databases: Databases, quota_dsn: str, statement: str, expected: dict[str, set[str]]
) -> None:
    await tamper(databases.admin(quota_dsn), statement)
    assert subjects(await find_differences(history.database)) == expected


async def tamper(admin_dsn: str, statement: str) -> None:
    """Change rows as a superuser whom no trigger stops."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(f"SET session_replication_role = replica; {statement}")
    finally:
        await connection.close()


async def test_a_budget_that_lost_an_entry_is_noticed_in_later_windows_too(
    history: Ledger, databases: Databases, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    await end_windows(sql)
    hold = reserve(10, *_KEY)
    await history.submit(hold)
    await history.submit(settle(hold.hold_id, 10))
    assert await find_differences(history.database) == []
    await tamper(
        databases.admin(quota_dsn), f"DELETE FROM quota.entries WHERE debit = 'hall_key' AND cause_id = '{_PAID}'"
    )
    assert subjects(await find_differences(history.database)) == {"charges": {_PAID}}


@pytest.mark.parametrize("statement", ["UPDATE quota.entries SET units = 1", "DELETE FROM quota.resolutions"])
async def test_the_service_itself_can_change_no_record(
    history: Ledger, sql: asyncpg.Connection, statement: str
) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        await sql.execute(statement)
    assert await find_differences(history.database) == []


@pytest.mark.parametrize("seed", range(3))
async def test_it_is_silent_over_any_history(ledger: Ledger, sql: asyncpg.Connection, seed: int) -> None:
    rng = random.Random(seed)
    await open_accounts(ledger)
    holds: list[tuple[str, int]] = []
    for turn in range(12):
        await top_up(ledger, new_uuid(), rng.randint(1, 90))
        await ledger.store.apply([step(rng, holds) for _ in range(30)])
        if turn % 3 == 1:
            await sql.execute("UPDATE quota.topups SET expires_at = clock_timestamp() WHERE units_left % 2 = 0")
            await overdue(sql)
            await ledger.store.apply(await ledger.store.overdue(15))
        if turn % 4 == 3:
            await end_windows(sql)
        assert await find_differences(ledger.database) == []
    kinds = await sql.fetch("SELECT DISTINCT kind, late FROM quota.resolutions")
    assert len(kinds) == 4, "settled, settled late, released and expired"


def step(rng: random.Random, holds: list[tuple[str, int]]) -> Command:
    if not holds or rng.random() < 0.4:
        hold = reserve(rng.randint(1, 60), *rng.choice([("hall",), _KEY, ("hall_key",)]))
        holds.append((hold.hold_id, hold.units))
        return hold
    hold_id, units = rng.choice(holds[-25:])
    return settle(hold_id, rng.randint(0, units)) if rng.random() < 0.7 else release(hold_id)


@pytest.mark.usefixtures("history")
async def test_the_command_exits_with_what_it_found(databases: Databases, quota_dsn: str) -> None:
    environ = environ_of("nats://unused", quota_dsn)
    assert await run("audit", environ) == (0, "6 checks, 0 differences\n")
    await tamper(databases.admin(quota_dsn), "UPDATE quota.balances SET used = used + 1 WHERE account_id = 'hall'")
    status, output = await run("audit", environ)
    first, last = output.splitlines()
    assert status == 1
    found = json.loads(first)
    assert (found["check"], found["subject"]) == ("balances", "hall")
    assert found["difference"].startswith("used 8, ledger 7;")
    assert last == "6 checks, 1 differences"
