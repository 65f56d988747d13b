"""Operators are told of keys that are about to expire, and not of those that are meant to."""

import asyncpg
from prometheus_client import REGISTRY

from integration.keys.harness import running
from odea_keys.settings import KeysSettings
from support.waiting import until

_MADE = """
INSERT INTO keys.tenants (tenant_id, name, suspended_at) VALUES ('ten_a', 'a', NULL), ('ten_b', 'b', now());
INSERT INTO keys.keys (key_id, tenant_id, name, scopes, own_account, created_at, expires_at, revoked_at)
SELECT 'key_' || name, tenant_id, name, '{speech}', false, now() - age, now() + rest, revoked_at FROM (VALUES
    ('soon', 'ten_a', interval '90 days', interval '6 days', NULL::timestamptz),
    ('sooner', 'ten_a', interval '30 days', interval '1 hour', NULL),
    ('later', 'ten_a', interval '90 days', interval '8 days', NULL),
    ('for a day', 'ten_a', interval '1 hour', interval '23 hours', NULL),
    ('gone', 'ten_a', interval '90 days', interval '-1 hour', NULL),
    ('revoked', 'ten_a', interval '90 days', interval '6 days', now()),
    ('suspended', 'ten_b', interval '90 days', interval '6 days', NULL),
    ('for ever', 'ten_a', interval '90 days', NULL, NULL)
) AS made (name, tenant_id, age, rest, revoked_at)
"""


async def test_keys_of_long_standing_are_told_of_a_week_before(
    settings: KeysSettings, database: asyncpg.Connection
) -> None:
    await database.execute(_MADE)
    async with running(settings):
        await until(lambda: REGISTRY.get_sample_value("odea_keys_expiring") == 2)
