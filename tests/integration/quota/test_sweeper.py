"""P3: holds whose owner died end by themselves, each once, however many replicas sweep."""

import json
from datetime import timedelta

import asyncpg

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    extend,
    open_ledger,
    overdue,
    reserve,
    submit_together,
)
from odea_contracts import subjects
from odea_contracts.quota import Extended, Reserved
from odea_quota.ledger import Command
from support.waiting import until

_MANY = 1_200
"""More than twice what one look of the sweeper takes."""


async def _nothing_is_held(sql: asyncpg.Connection) -> bool:
    return await sql.fetchval("SELECT count(*) FROM quota.holds") == 0


async def _reserve(ledger: Ledger, count: int, lease_ms: int = 60_000) -> list[str]:
    commands: list[Command] = [reserve(2, lease_ms=lease_ms) for _ in range(count)]
    answers = await submit_together([ledger], commands)
    assert {type(answer) for answer in answers} == {Reserved}
    return [command.hold_id for command in commands]


async def test_the_holds_of_a_dead_owner_end_soon_after_their_lease(quota_dsn: str, sql: asyncpg.Connection) -> None:
    async with open_ledger(quota_dsn) as owner:
        await owner.open_account()
        await _reserve(owner, 3, lease_ms=1_000)
        ends_at = await sql.fetchval("SELECT max(lease_ends_at) FROM quota.holds")
        assert ends_at is not None
    # The owner is gone, and with it all that it remembered.
    async with open_ledger(quota_dsn, sweep_s=0.2) as heir:
        await until(lambda: _nothing_is_held(sql), within_s=30)
        assert await heir.used_and_held() == (0, 0, 0)
        rows = await sql.fetch("SELECT kind, units_settled, resolved_at FROM quota.resolutions")
        assert [(row["kind"], row["units_settled"]) for row in rows] == [("expired", 0)] * 3
        assert all(ends_at <= row["resolved_at"] < ends_at + timedelta(seconds=10) for row in rows)
        await balances_are_true(sql, heir)


async def test_a_lease_that_goes_on_is_left_alone(quota_dsn: str, sql: asyncpg.Connection) -> None:
    async with open_ledger(quota_dsn, sweep_s=0.05) as ledger:
        await ledger.open_account()
        kept, lost = await _reserve(ledger, 2)
        assert isinstance(await ledger.submit(extend(kept, 3_600_000)), Extended)
        await overdue(sql, lost)

        async def one_is_left() -> bool:
            return await sql.fetchval("SELECT count(*) FROM quota.holds") == 1

        await until(one_is_left)
        # It has looked again since then.
        await overdue(sql, *await _reserve(ledger, 1))
        await until(one_is_left)
        assert str(await sql.fetchval("SELECT hold_id FROM quota.holds")) == kept
        assert await ledger.used_and_held() == (0, 2, 1)


async def test_several_sweepers_at_once_end_each_hold_once(quota_dsn: str, sql: asyncpg.Connection) -> None:
    async with open_ledger(quota_dsn) as owner:
        await owner.open_account(units=10_000)
        hold_ids = await _reserve(owner, _MANY)
        await overdue(sql)
    async with open_ledger(quota_dsn, sweep_s=0.05) as first, open_ledger(quota_dsn, sweep_s=0.05):
        await until(lambda: _nothing_is_held(sql), within_s=60)
        rows = await sql.fetch("SELECT hold_id::text FROM quota.resolutions WHERE kind = 'expired'")
        assert sorted(row["hold_id"] for row in rows) == sorted(hold_ids)
        events = await sql.fetch("SELECT subject, body FROM quota.outbox")
        assert {event["subject"] for event in events} == {subjects.QUOTA_EXPIRED}
        assert sorted(json.loads(event["body"])["hold_id"] for event in events) == sorted(hold_ids)
        assert await first.used_and_held() == (0, 0, 0)
        await balances_are_true(sql, first)


async def _partitions(sql: asyncpg.Connection) -> list[str]:
    rows = await sql.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhparent WHERE relkind = 'p'"
    )
    return [row[0] for row in rows]


async def _drop_partitions(sql: asyncpg.Connection) -> None:
    await sql.execute("DROP TABLE " + ", ".join(await _partitions(sql)))


async def test_a_service_that_slept_past_the_month_s_end_can_still_end_holds(
    quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """Its partitions are made before the first hold is ended, or ending it would have no place to be written."""
    async with open_ledger(quota_dsn) as owner:
        await owner.open_account()
        await _reserve(owner, 1)
    await overdue(sql)
    await _drop_partitions(sql)
    async with open_ledger(quota_dsn, sweep_s=10) as ledger:
        await until(lambda: _nothing_is_held(sql), within_s=5)
        assert await ledger.used_and_held() == (0, 0, 0)
