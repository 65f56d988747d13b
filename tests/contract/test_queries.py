"""Every named query fits the migrated schema, and the hot ones of quota stay fast on full tables."""

import json
from collections.abc import AsyncGenerator, Iterator
from importlib.resources import files
from typing import Any, Final

import aiosql
import asyncpg
import pytest

from odea_runtime.ids import new_uuid
from support.databases import Databases


def _named(package: str, file: str) -> dict[str, str]:
    """The queries of a file by name, as they are sent to the server."""
    queries: Any = aiosql.from_str((files(package) / file).read_text(), "asyncpg")
    names = [name for name in queries.available_queries if not name.endswith("_cursor")]
    return {name: getattr(queries, name).sql for name in names}


_SERVICES: Final = {name: _named(f"odea_{name}", "queries.sql") for name in ("keys", "quota", "synth")}
_SHARED: Final = {
    name: sql
    for file in ("outbox.sql", "audit.sql", "repeats.sql")
    for name, sql in _named("odea_runtime", file).items()
}
_WITH_SHARED: Final = ("keys", "quota")
_CASES = [
    pytest.param(service, sql, id=f"{service}-{name}")
    for service, queries in _SERVICES.items()
    for name, sql in (queries | (_SHARED if service in _WITH_SHARED else {})).items()
]
_QUOTA: Final = _SERVICES["quota"]


@pytest.fixture(scope="module")
async def schemas(databases: Databases) -> AsyncGenerator[dict[str, asyncpg.Connection]]:
    """A session of each service's own role in a migrated database, with the search path that the pool sets."""
    opened = {
        service: await asyncpg.connect(await databases.create(service), server_settings={"search_path": service})
        for service in _SERVICES
    }
    yield opened
    for connection in opened.values():
        await connection.close()


@pytest.mark.parametrize(("service", "sql"), _CASES)
async def test_the_schema_has_what_the_query_names(
    schemas: dict[str, asyncpg.Connection], service: str, sql: str
) -> None:
    await schemas[service].prepare(sql)


@pytest.mark.parametrize("table", ["outbox", "audit", "repeats"])
async def test_every_service_that_others_change_has_the_shared_tables(
    schemas: dict[str, asyncpg.Connection], table: str
) -> None:
    found = [
        service
        for service, connection in schemas.items()
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table)
    ]
    assert found == list(_WITH_SHARED)


_MONTHS = 12
_FILL = f"""
SELECT quota.ensure_partition(now() - n * interval '1 month') FROM generate_series(1, {_MONTHS}) AS n;
INSERT INTO quota.resolutions (resolved_at, hold_id, kind, account_ids, units_held, units_settled, reserved_at,
    request_id, tenant_id, key_id)
SELECT date_trunc('month', now(), 'UTC') + (1 - n % {_MONTHS + 2}) * interval '1 month' + interval '1 h',
    gen_random_uuid(), 'expired', '{{hall}}', 10, 0, now(), 'req', 'ten', 'key'
FROM generate_series(1, 42000) AS n;
INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
SELECT gen_random_uuid(), '{{hall}}', 10, now() + n * interval '1 s', now(), 'req', 'ten', 'key'
FROM generate_series(1, 20000) AS n;
ANALYZE quota.resolutions, quota.holds;
"""
_OPEN_AND_CLOSE = """
INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
SELECT gen_random_uuid(), '{hall}', 10, now(), now(), 'req', 'ten', 'key' FROM generate_series(1, 5000) AS n;
DELETE FROM quota.holds;
ANALYZE quota.holds;
"""
_IDS = "'{" + ",".join(new_uuid() for _ in range(400)) + "}'"
_LOOK_KINDS: Final = "uuid[], text[]"
_LOOKED: Final = f"{_IDS}, '{{hall}}'"
_RECENT = """
SELECT 'resolutions_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')
FROM generate_series(date_trunc('month', now() - interval '32 days', 'UTC'), now() + interval '1 month', '1 month')
    AS month
"""


@pytest.fixture(scope="module")
async def full(databases: Databases) -> AsyncGenerator[asyncpg.Connection]:
    """A year of ended holds, and many open ones of which none is overdue."""
    # The server is told to forget its statements, so the driver must not remember them.
    connection = await asyncpg.connect(
        await databases.create("quota"), statement_cache_size=0, server_settings={"timezone": "UTC"}
    )
    await connection.execute(_FILL)
    yield connection
    await connection.close()


async def _plan(
    connection: asyncpg.Connection, query: str, kind: str, mode: str, argument: str
) -> list[dict[str, Any]]:
    """The nodes that run when a query is executed as a prepared statement, planned for any or for these arguments."""
    await connection.execute(f"DEALLOCATE ALL; SET plan_cache_mode = {mode}")
    await connection.execute(f"PREPARE asked ({kind}) AS {_QUOTA[query]}")
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({argument})")
    return list(_walk(json.loads(explained or "[]")[0]["Plan"]))


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)


# A statement that was prepared once is planned for any arguments after a few runs.
each_mode = pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])


@each_mode
async def test_open_holds_are_found_by_their_id(full: asyncpg.Connection, mode: str) -> None:
    nodes = await _plan(full, "look_batch", _LOOK_KINDS, mode, _LOOKED)
    looks = [node for node in nodes if node.get("Relation Name") == "holds" or node.get("Index Name") == "holds_pkey"]
    assert looks
    assert "Seq Scan" not in {node["Node Type"] for node in looks}


@pytest.fixture(scope="module")
async def emptied(databases: Databases) -> AsyncGenerator[asyncpg.Connection]:
    """No open hold, after many: a table that looks small and whose index is not."""
    connection = await asyncpg.connect(await databases.create("quota"), statement_cache_size=0)
    await connection.execute(_OPEN_AND_CLOSE)
    yield connection
    await connection.close()


@each_mode
async def test_holds_that_a_batch_changes_are_found_by_their_ids(emptied: asyncpg.Connection, mode: str) -> None:
    """How many rows a JSON array makes is not known to the planner, which would sooner read all that there are."""
    hold = f'[{{"hold_id": "{new_uuid()}", "units": 1, "lease_ends_at_ms": 0}}]'
    arguments = ["[]", "[]", hold, f"{{{new_uuid()}}}", "[]", "[]", "0", "[]", "[]"]
    kinds = "json, json, json, uuid[], json, json, bigint, json, json"
    nodes = await _plan(emptied, "write_batch", kinds, mode, ", ".join(f"'{argument}'" for argument in arguments))
    scans = [node for node in nodes if "Scan" in node["Node Type"] and node.get("Relation Name") == "holds"]
    assert len(scans) == 2
    assert all({"Index Cond", "Recheck Cond"} & node.keys() for node in scans), scans


@each_mode
async def test_a_sweep_that_finds_nothing_reads_nothing(full: asyncpg.Connection, mode: str) -> None:
    nodes = await _plan(full, "find_overdue", "int", mode, "500")
    (scan,) = [node for node in nodes if node.get("Index Name") == "holds_by_lease"]
    assert "lease_ends_at" in scan["Index Cond"]
    assert scan.get("Rows Removed by Filter", 0) == 0


@each_mode
async def test_the_past_is_read_by_index_and_no_further_back_than_it_is_remembered(
    full: asyncpg.Connection, mode: str
) -> None:
    nodes = await _plan(full, "look_batch", _LOOK_KINDS, mode, _LOOKED)
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not {name for name in scanned if name.startswith("resolutions")}
    read = {node["Relation Name"] for node in nodes if node.get("Relation Name", "").startswith("resolutions_")}
    assert read == {row[0] for row in await full.fetch(_RECENT)}
    assert len(read) < 5 < _MONTHS
