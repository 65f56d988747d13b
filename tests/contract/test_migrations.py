"""Migrations may run twice and at once; each service owns its schema and sees no other; what it makes has a name."""

import asyncio
import re
from typing import Final

import asyncpg
import pytest
import structlog

from odea_runtime.migrations import SchemaNotReadyError, await_schema, migrate
from odea_runtime.settings import DatabaseSettings, load
from support.databases import Databases
from support.waiting import until

_SERVICES: Final = ("keys", "quota", "synth")
each_service = pytest.mark.parametrize("service", _SERVICES)

# Everything that a migration could change, with the versions of its rows, so that even rewriting the same shows.
_CATALOGUE = """
SELECT c.relname, c.relkind::text, c.oid::text, a.attname, a.atttypid::regtype::text, a.xmin::text
FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = $1::regnamespace
UNION ALL
SELECT conname, contype::text, oid::text, pg_get_constraintdef(oid), '', xmin::text FROM pg_constraint
WHERE connamespace = $1::regnamespace
UNION ALL
SELECT proname, 'f', oid::text, prosrc, '', xmin::text FROM pg_proc WHERE pronamespace = $1::regnamespace
ORDER BY 1, 2, 3, 4
"""
_UNNAMED = """
SELECT t.relname || '.' || conname FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid
WHERE c.connamespace = $1::regnamespace AND contype IN ('c', 'f', 'u', 'x') AND NOT t.relispartition
    AND conname ~ ('^' || t.relname || '_.*(check|fkey|key|excl)[0-9]*$')
"""


def _settings(dsn: str) -> DatabaseSettings:
    return load(DatabaseSettings, {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": dsn})


async def _fetch(dsn: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


@each_service
async def test_a_second_migration_changes_nothing(databases: Databases, service: str) -> None:
    dsn = await databases.create(service)
    before = await _fetch(dsn, _CATALOGUE, service)
    assert len(before) > 20
    await migrate(_settings(dsn), f"odea_{service}", service)
    assert await _fetch(dsn, _CATALOGUE, service) == before


@each_service
async def test_eight_at_once_on_an_empty_schema_make_it_once(databases: Databases, service: str) -> None:
    """Every replica may be told to migrate before it serves."""
    dsn = await databases.create(service)
    shape = _shape(await _fetch(dsn, _CATALOGUE, service))
    connection = await asyncpg.connect(databases.admin(dsn))
    try:
        await connection.execute(f"DROP SCHEMA {service} CASCADE; CREATE SCHEMA {service} AUTHORIZATION odea_{service}")
    finally:
        await connection.close()
    assert _shape(await _fetch(dsn, _CATALOGUE, service)) == []
    await asyncio.gather(*(migrate(_settings(dsn), f"odea_{service}", service) for _ in range(8)))
    assert _shape(await _fetch(dsn, _CATALOGUE, service)) == shape
    assert len(await _fetch(dsn, f"SELECT * FROM {service}.schema_version")) == 1


def _shape(catalogue: list[asyncpg.Record]) -> list[tuple[str, ...]]:
    """The catalogue without the numbers that differ from one making to the next."""
    return [(row[0], row[1], row[3], row[4]) for row in catalogue]


@each_service
async def test_a_service_sees_its_own_schema_and_no_other(databases: Databases, service: str) -> None:
    for other in _SERVICES:
        # A database that holds the other's tables, seen through the role of this service.
        dsn = re.sub(r"//odea_\w+:", f"//odea_{service}:", await databases.create(other))
        (table,) = await _fetch(
            databases.admin(dsn),
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = $1 ORDER BY 1 LIMIT 1",
            other,
        )
        attempts = (
            f"SELECT * FROM {table[0]}",
            f"DELETE FROM {table[0]}",
            f"CREATE TABLE {other}.mine (n int)",
        )
        if other == service:
            await _fetch(dsn, attempts[0])
            continue
        for attempt in (*attempts, "CREATE TABLE public.mine (n int)", f"GRANT USAGE ON SCHEMA {other} TO PUBLIC"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await _fetch(dsn, attempt)


@each_service
async def test_every_constraint_has_a_name_of_its_own(databases: Databases, service: str) -> None:
    """Code tells outcomes apart by these names, so none may be what PostgreSQL happened to call it."""
    dsn = await databases.create(service)
    assert [row[0] for row in await _fetch(dsn, _UNNAMED, service)] == []


@each_service
async def test_a_rolled_back_version_leaves_a_later_schema_alone(databases: Databases, service: str) -> None:
    dsn = await databases.create(service)
    await _execute(dsn, f"UPDATE {service}.schema_version SET version_num = '9999'")
    before = await _fetch(dsn, _CATALOGUE, service)
    await migrate(_settings(dsn), f"odea_{service}", service)
    assert await _fetch(dsn, _CATALOGUE, service) == before
    assert await _fetch(dsn, f"SELECT version_num FROM {service}.schema_version") == [("9999",)]
    await asyncio.wait_for(await_schema(_settings(dsn), f"odea_{service}", service, asyncio.Event()), 10)


@each_service
async def test_a_new_version_waits_until_its_schema_is_there(databases: Databases, service: str) -> None:
    dsn, package = await databases.create(service), f"odea_{service}"
    connection = await asyncpg.connect(databases.admin(dsn))
    try:
        await connection.execute(f"DROP SCHEMA {service} CASCADE; CREATE SCHEMA {service} AUTHORIZATION odea_{service}")
    finally:
        await connection.close()
    with structlog.testing.capture_logs() as logs:
        waiting = asyncio.create_task(await_schema(_settings(dsn), package, service, asyncio.Event()))
        await until(lambda: any(line["event"] == "waiting for the schema" for line in logs))
        assert not waiting.done()
        await migrate(_settings(dsn), package, service)
        await asyncio.wait_for(waiting, 10)


async def test_waiting_for_a_schema_waits_for_the_database_and_ends_when_told() -> None:
    stop = asyncio.Event()
    with structlog.testing.capture_logs() as logs:
        waiting = asyncio.create_task(
            await_schema(_settings("postgresql://odea_keys@127.0.0.1:9/odea"), "odea_keys", "keys", stop)
        )
        await until(lambda: bool(logs))
        stop.set()
        with pytest.raises(SchemaNotReadyError):
            await asyncio.wait_for(waiting, 10)
    assert logs[0]["waiting_for"] == "ConnectionRefusedError"


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
