"""Operators are told of units that were paid for and are about to lapse."""

import asyncpg
from prometheus_client import REGISTRY

from integration.quota.harness import Ledger
from odea_quota.lapses import Lapses
from odea_runtime.background import running
from support.waiting import until

_MADE = """
INSERT INTO quota.accounts (account_id, tenant_id, plan) VALUES ('ten_a', 'ten_a', 'default');
INSERT INTO quota.topups (topup_id, account_id, units, units_left, units_held, expires_at)
SELECT gen_random_uuid(), 'ten_a', 1000, units_left, 1, now() + rest FROM (VALUES
    (10, interval '1 hour'), (200, interval '6 days'), (0, interval '6 days'),
    (300, interval '8 days'), (400, interval '-1 hour')
) AS made (units_left, rest)
"""


async def test_what_is_left_of_top_ups_is_told_of_a_week_before(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await sql.execute(_MADE)
    async with running(Lapses(ledger.database).run()):
        await until(lambda: REGISTRY.get_sample_value("odea_quota_topup_units_lapsing") == 210)
