"""Soft limits on a real database: the event leaves with the charge that crossed the limit, once a window."""

import asyncpg
import msgspec

from integration.quota.harness import Ledger, end_windows, open_ledgers, reserve, settle, submit_together, together
from odea_contracts import subjects
from odea_contracts.quota import Settled
from odea_contracts.quota_events import ThresholdCrossed


async def events(sql: asyncpg.Connection) -> list[ThresholdCrossed]:
    rows = await sql.fetch(
        "SELECT body FROM quota.outbox WHERE subject = $1 ORDER BY id", subjects.QUOTA_THRESHOLD_CROSSED
    )
    return [msgspec.json.decode(row["body"], type=ThresholdCrossed) for row in rows]


async def charge(ledger: Ledger, units: int) -> None:
    hold = reserve(units)
    await ledger.submit(hold)
    for _ in range(2):
        assert isinstance(await ledger.submit(settle(hold.hold_id, units)), Settled)


async def test_each_is_told_once_a_window(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(soft_limits_percent=(50, 80))
    for units in (49, 1, 10, 20, 10):
        await charge(ledger, units)
    told = await events(sql)
    assert [(one.percent, one.used, one.limit) for one in told] == [(50, 50, 100), (80, 80, 100)]
    assert (told[0].account_id, told[0].tenant_id) == ("hall", "ten")
    assert told[0].window_ends_at_ms == (await ledger.balance()).window_ends_at_ms
    await end_windows(sql)
    await charge(ledger, 55)
    assert [one.percent for one in await events(sql)] == [50, 80, 50]


async def test_a_hundred_callers_on_three_replicas_cross_it_once(quota_dsn: str, sql: asyncpg.Connection) -> None:
    async with open_ledgers(quota_dsn, 3) as ledgers:
        await ledgers[0].open_account(soft_limits_percent=(50,))
        holds = [reserve(1) for _ in range(100)]
        await submit_together(ledgers, list(holds))
        await together(
            *(
                lambda number=number, hold=hold: ledgers[number % 3].submit(settle(hold.hold_id, 1))
                for number, hold in enumerate(holds)
            )
        )
        assert [(one.percent, one.used >= 50) for one in await events(sql)] == [(50, True)]
