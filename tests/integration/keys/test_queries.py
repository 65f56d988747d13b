"""The named queries fit the migrated schema, and those that every request runs read by an index."""

from importlib.resources import files
from typing import Any

import aiosql
import asyncpg
import pytest

from integration.keys.harness import settings_for
from odea_keys.settings import KeysSettings
from odea_runtime.postgres import Database
from support.databases import Databases

QUERIES = (
    "add_event",
    "add_key",
    "add_secret",
    "add_tenant",
    "find_secret",
    "key",
    "keys_after",
    "keys_expiring",
    "limit_secrets",
    "lock_living_key",
    "rename_tenant",
    "resume",
    "revoke",
    "suspend",
    "tenant",
    "tenant_named",
    "tenants_after",
    "update_key",
)
SHARED = ("audit.sql", "repeats.sql")
READ_BY_INDEX = {
    "audit_before": ["ten_1", None, None, 10, 1000],
    "forget_old_repeats": [60.0],
    "forget_repeat": ["x", "issue", b"", 60.0],
    "keep_repeat": ["{}", "x", "issue", b""],
    "rename_tenant": ["Hall", "ten_1"],
    "repeat": ["x", "issue", b""],
    "find_secret": ["000000000000"],
    "key": ["key_1"],
    "keys_after": ["ten_1", "key_1", 10],
    "limit_secrets": [0, "key_1"],
    "lock_living_key": ["key_1"],
    "tenant": ["ten_1"],
    "tenant_named": ["Hall"],
    "tenants_after": ["ten_1", 10],
}


@pytest.fixture(scope="module")
async def settings(databases: Databases) -> KeysSettings:
    """One database for all, because nothing here writes. There is no bus."""
    return settings_for("nats://unused", await databases.create("keys"))


@pytest.fixture(scope="module")
def queries(settings: KeysSettings) -> Any:
    return Database(settings, "odea_keys", "keys").queries


@pytest.fixture(scope="module")
def all_queries(queries: Any) -> dict[str, str]:
    """The service's own and those of the tables that it shares the form of, as they are sent to the server."""
    shared = [aiosql.from_str((files("odea_runtime") / file).read_text(), "asyncpg") for file in SHARED]
    return {name: getattr(each, name).sql for each in (queries, *shared) for name in each.available_queries}


def test_all_queries_are_known_here(queries: Any) -> None:
    names = {name for name in queries.available_queries if not name.endswith("_cursor")}
    assert names == set(QUERIES)


@pytest.mark.parametrize("name", QUERIES)
async def test_the_schema_has_what_the_query_names(queries: Any, database: asyncpg.Connection, name: str) -> None:
    await database.prepare(getattr(queries, name).sql)


@pytest.mark.parametrize("name", READ_BY_INDEX)
async def test_no_query_reads_a_whole_table(
    all_queries: dict[str, str], database: asyncpg.Connection, name: str
) -> None:
    """With sequential scans priced out of the market, one that remains has no index to use instead."""
    await database.execute("SET enable_seqscan = off; SET enable_sort = off; SET search_path = keys")
    plan = await database.fetch("EXPLAIN " + all_queries[name], *READ_BY_INDEX[name])
    text = "\n".join(row[0] for row in plan)
    assert "Index" in text
    assert "Seq Scan" not in text
    assert "Sort" not in text, "pages are read in the order of the index"


async def test_milliseconds_survive_the_storage(database: asyncpg.Connection) -> None:
    for ms in (0, 1, 999, 1_000, 1_700_000_000_001, 253_402_300_799_999, 2**53):
        assert await database.fetchval("SELECT keys.to_ms(keys.from_ms($1))", ms) == ms
    assert await database.fetchval("SELECT keys.to_ms('1970-01-01 00:00:00.0019Z')") == 1, "cut off below"


async def test_pages_follow_the_bytes_of_the_ids(database: asyncpg.Connection) -> None:
    """A database in another language would else order them otherwise than their index and their makers do."""
    rows = await database.fetch(
        "SELECT collation_name FROM information_schema.columns WHERE table_schema = 'keys'"
        " AND table_name IN ('tenants', 'keys', 'secrets') AND column_name IN ('tenant_id', 'key_id', 'public_id')"
    )
    assert [row["collation_name"] for row in rows] == ["C"] * 5
