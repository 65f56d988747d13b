"""Reading: usage by day and key is what was settled, and no question reads more rows than its answer needs."""

import json
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from integration.quota.harness import Ledger, reserve, settle
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.quota import Settled, UsagePoint, UsageSeries, UsageSeriesReport
from odea_quota.reader import POINTS_MAX
from odea_runtime.postgres import Database
from odea_runtime.settings import DatabaseSettings, load
from support.databases import Databases


def today() -> date:
    return datetime.now(UTC).date()


async def points(ledger: Ledger, query: UsageSeries) -> list[tuple[str, str, int, int]]:
    reply = await ledger.reader.usage_series(query)
    assert isinstance(reply, UsageSeriesReport), reply
    return [(point.day, point.key_id, point.units, point.requests) for point in reply.points]


async def charge(ledger: Ledger, key_id: str, units: int) -> None:
    hold = reserve(units, key_id=key_id)
    await ledger.submit(hold)
    assert isinstance(await ledger.submit(settle(hold.hold_id, units)), Settled)


async def test_usage_is_told_by_day_and_key(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=1_000)
    first = today()
    for key_id, units in (("key_b", 10), ("key_a", 5), ("key_b", 7), ("key_b", 0)):
        await charge(ledger, key_id, units or 1)
    days = sorted({first, today()})
    assert len(days) == 1, "midnight passed"
    now = [(str(first), "key_a", 5, 1), (str(first), "key_b", 18, 3)]
    query = UsageSeries(tenant_id="ten", first_day=str(first), days=1)
    assert await points(ledger, query) == now
    await sql.executemany(
        "INSERT INTO quota.usage_days VALUES ($1, $2, $3, 100, 4)",
        [("ten", first - timedelta(days=ago), "key_a") for ago in (1, 2, 3)] + [("other", first, "key_z")],
    )
    earlier = [(str(first - timedelta(days=ago)), "key_a", 100, 4) for ago in (2, 1)]
    both = replace(query, first_day=str(first - timedelta(days=2)), days=2)
    assert await points(ledger, both) == earlier, "the first day counts, the day after the last does not"
    assert await points(ledger, replace(both, days=3)) == earlier + now
    assert await points(ledger, replace(both, days=366, key_id="key_b")) == now[1:]
    assert await points(ledger, replace(query, tenant_id="nobody")) == []


@pytest.mark.parametrize("day", ["2026-02-30", "2026-13-01", "0000-01-01"])
async def test_a_day_that_does_not_exist_is_named(ledger: Ledger, day: str) -> None:
    reply = await ledger.reader.usage_series(UsageSeries(tenant_id="ten", first_day=day, days=1))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.INVALID_VALUE, "first_day")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
async def test_the_ends_of_the_calendar_are_only_empty(ledger: Ledger, day: str) -> None:
    assert await points(ledger, UsageSeries(tenant_id="ten", first_day=day, days=366)) == []


async def test_an_answer_that_no_message_could_hold_is_refused(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """P10: what fits is told whole, one point more is refused with what to ask instead."""
    fill = (
        "INSERT INTO quota.usage_days SELECT 'ten', '2026-01-01', $1 || n, 1, 1 FROM generate_series(1, $2::int) AS n"
    )
    await sql.execute(fill, "k" * 60, POINTS_MAX)
    query = UsageSeries(tenant_id="ten", first_day="2026-01-01", days=366)
    reply = await ledger.reader.usage_series(query)
    assert isinstance(reply, UsageSeriesReport)
    assert len(reply.points) == POINTS_MAX
    widest = UsagePoint(day="2026-01-01", key_id="k" * 64, units=10**12, requests=10**9)
    assert len(json.dumps({name: getattr(widest, name) for name in widest.__struct_fields__})) * POINTS_MAX < 1_000_000
    await sql.execute(fill, "more", 1)
    refused = await ledger.reader.usage_series(query)
    assert isinstance(refused, Failure)
    assert (refused.code, refused.param) == (ErrorCode.INVALID_VALUE, "days")
    assert len(await points(ledger, replace(query, key_id="more1"))) == 1


_FILL = """
INSERT INTO quota.accounts (account_id, tenant_id, plan)
    SELECT 'acc_' || n, 'ten_' || n % 1000, 'default' FROM generate_series(1, 20000) AS n;
INSERT INTO quota.balances (account_id, "window", requests_burst, window_started_at)
    SELECT 'acc_' || n, 'none', 1, to_timestamp(0) FROM generate_series(1, 20000) AS n;
INSERT INTO quota.topups (topup_id, account_id, units, units_left, expires_at)
    SELECT gen_random_uuid(), 'acc_' || n, 10, 10, now() + interval '1 day' FROM generate_series(1, 20000) AS n;
INSERT INTO quota.resolutions (resolved_at, hold_id, kind, account_ids, units_held, units_settled, outcome, reserved_at,
        request_id, tenant_id, key_id)
    SELECT clock_timestamp(), lpad(to_hex(n), 32, '0')::uuid, 'settled', ARRAY['acc_' || n % 20000], 10, 10,
        'completed', now(), 'req', 'ten_' || n % 1000, 'key'
    FROM generate_series(1, 200000) AS n;
INSERT INTO quota.entries (at, cause_id, debit, credit, units)
    SELECT resolved_at, hold_id, account_ids[1], 'provider:piper', 10 FROM quota.resolutions;
INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
    SELECT gen_random_uuid(), ARRAY['acc_' || n], 1, now() + n * interval '1 s', now(), 'req', 'ten', 'key'
    FROM generate_series(1, 20000) AS n;
INSERT INTO quota.usage_days
    SELECT 'ten_' || n % 100, current_date - n % 200, 'key_' || n, 1, 1 FROM generate_series(1, 20000) AS n;
"""
_IDS = [f"{number:032x}" for number in range(1, 200_000, 20_000)]
_QUESTIONS: dict[str, list[Any]] = {
    "read_usage_days": ["ten_7", date(2026, 1, 1), 366, None, POINTS_MAX],
    "look_batch": [_IDS, ["acc_7", "acc_19000"]],
    "lock_batch": [["acc_7", "acc_19000"], _IDS],
    "find_charges": [_IDS],
    "find_reversals": [_IDS],
    "find_overdue": [100],
    "lock_balances": [["acc_7", "acc_19000"]],
    "read_accounts": [["acc_7", "acc_19000"]],
    "find_topups": [["acc_7", "acc_19000"]],
    "lock_plan_balances": [None, "acc_7"],
}
_BLOCKS_MAX = 250


@pytest.fixture(scope="module")
async def full(databases: Databases) -> AsyncGenerator[asyncpg.Connection]:
    """A database with a past: 200,000 ended holds with their entries, 20,000 of everything else."""
    connection = await asyncpg.connect(await databases.create("quota"))
    await connection.execute(_FILL)
    await connection.execute(
        "ANALYZE quota.resolutions, quota.entries, quota.usage_days, quota.accounts, quota.balances"
    )
    await connection.execute("ANALYZE quota.topups, quota.holds")
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def queries(databases: Databases) -> Any:
    environ = {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": await databases.create("quota")}
    return Database(load(DatabaseSettings, environ), "odea_quota", "quota").queries


@pytest.mark.parametrize("name", _QUESTIONS)
async def test_no_question_reads_a_whole_table(full: asyncpg.Connection, queries: Any, name: str) -> None:
    sql = getattr(queries, name).sql
    async with full.transaction():
        rows = await full.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *_QUESTIONS[name])
    plan = json.loads(rows[0][0])[0]["Plan"]
    nodes = list(walk(plan))
    assert any("Index" in node["Node Type"] for node in nodes)
    # The partition of a month that has not come is empty, and read as a whole.
    read_whole = [node for node in nodes if node["Node Type"] == "Seq Scan"]
    assert all(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) == 0 for node in read_whole), read_whole
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < _BLOCKS_MAX


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)
