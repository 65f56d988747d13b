"""A page of the request log costs the same however much is in it: it is read in the order of an index (P10)."""

import json
from collections.abc import AsyncGenerator, Iterator
from importlib.resources import files
from typing import Any, Final

import aiosql
import asyncpg
import pytest

from support.databases import Databases

_QUERIES: Final[Any] = aiosql.from_str((files("odea_synth") / "queries.sql").read_text(), "asyncpg")
_LOOKED_MAX: Final = 500
_FILL: Final = """
SELECT synth.ensure_partition(now() - n * interval '1 month') FROM generate_series(1, 4) AS n;
INSERT INTO synth.requests (received_at, hold_id, request_id, tenant_id, key_id, model, voice, response_format,
    provider, outcome, characters, units_held, units_settled, provider_units, audio_bytes, duration_ms)
SELECT now() - n * interval '150 s', gen_random_uuid(), 'req_' || n, 'ten_' || n % 20, 'key_' || n % 40, 'tts-1',
    'alloy', 'mp3', 'minimax', 'completed', 5, 5, 5, 5, 4711, 900
FROM generate_series(1, 60000) AS n;
ANALYZE synth.requests;
"""
_CASES: Final = [
    ("requests_of_tenant", "'ten_7', "),
    ("requests_of_all", ""),
    ("requests_by_request_id", "'req_7', 'ten_7', "),
]


def _execute(who: str, *, after: str = "NULL, NULL", outcome: str = "NULL") -> str:
    """The arguments in the order of the queries: who, since, until, cursor, bound, the four filters, page."""
    arguments = f"{who}NULL, NULL, {after}, {_LOOKED_MAX}, NULL, {outcome}, NULL, NULL, 51"
    return f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({arguments})"


@pytest.fixture(scope="module")
async def full(databases: Databases) -> AsyncGenerator[asyncpg.Connection]:
    """Months of requests of twenty tenants."""
    connection = await asyncpg.connect(
        await databases.create("synth"), statement_cache_size=0, server_settings={"timezone": "UTC"}
    )
    await connection.execute(_FILL)
    yield connection
    await connection.close()


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("outcome", ["NULL", "'refused'"])
@pytest.mark.parametrize(("query", "who"), _CASES)
async def test_a_page_reads_no_more_rows_than_it_may(
    full: asyncpg.Connection, query: str, who: str, outcome: str, mode: str
) -> None:
    await full.execute(f"DEALLOCATE ALL; SET plan_cache_mode = {mode}")
    await full.execute(f"PREPARE asked AS {getattr(_QUERIES, query).sql}")
    explained = await full.fetchval(_execute(who, outcome=outcome))
    scans = _scans(explained)
    read = sum(map(_read, scans))
    # A month without rows may be read as it likes.
    assert {node["Node Type"] for node in scans if _read(node)} == {"Index Scan"}
    # Each month that is begun is asked for its first row.
    assert read <= _LOOKED_MAX + 10


async def test_the_next_page_begins_where_the_last_ended(full: asyncpg.Connection) -> None:
    """A cursor is a condition of the index and not a filter behind it."""
    await full.execute("DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan")
    await full.execute(f"PREPARE asked AS {_QUERIES.requests_of_tenant.sql}")
    middle = await full.fetchrow(
        "SELECT synth.to_us(received_at) AS us, id FROM synth.requests ORDER BY received_at LIMIT 1 OFFSET 9000"
    )
    assert middle
    explained = await full.fetchval(_execute("'ten_7', ", after=f"{middle['us']}, '{middle['id']}'"))
    scans = [node for node in _scans(explained) if node["Actual Rows"]]
    assert scans
    for node in scans:
        assert "ROW(received_at, id)" in node["Index Cond"]
        assert node.get("Rows Removed by Filter", 0) == 0


def _read(node: dict[str, Any]) -> int:
    return node["Actual Rows"] + node.get("Rows Removed by Filter", 0)


def _scans(explained: str | None) -> list[dict[str, Any]]:
    nodes = _walk(json.loads(explained or "[]")[0]["Plan"])
    return [node for node in nodes if "Relation Name" in node]
