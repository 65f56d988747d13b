"""Each service's login owns its schema and sees nothing of the others."""

from collections.abc import Generator

import asyncpg
import pytest

from odea_local import roles
from odea_local.embedded import EmbeddedPostgres, embedded_postgres
from odea_local.errors import LocalError
from odea_local.postgres import Postgres
from odea_local.roles import DATABASE, Role

ROLES = tuple(Role(service=name, password=name * 4) for name in ("keys", "quota", "synth"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres]:
    with embedded_postgres(tmp_path_factory.mktemp("roles")) as server:
        yield server


@pytest.fixture
async def postgres(server: EmbeddedPostgres) -> Postgres:
    await roles.ensure(server.postgres, ROLES)
    return server.postgres


async def run(postgres: Postgres, role: Role, query: str, database: str = DATABASE) -> object:
    connection = await asyncpg.connect(postgres.dsn(role.name, role.password, database))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.parametrize("role", ROLES, ids=str)
async def test_a_role_can_work_in_its_own_schema(postgres: Postgres, role: Role) -> None:
    await run(postgres, role, f"CREATE TABLE IF NOT EXISTS {role.service}.things (id int)")
    assert await run(postgres, role, f"SELECT count(*) FROM {role.service}.things") == 0


PAIRS = [(thief, owner) for thief in ROLES for owner in ROLES if thief is not owner]


@pytest.mark.parametrize(("thief", "owner"), PAIRS, ids=lambda role: role.service)
async def test_a_role_can_do_nothing_in_the_schema_of_another(postgres: Postgres, thief: Role, owner: Role) -> None:
    schema = owner.service
    await run(postgres, owner, f"CREATE TABLE IF NOT EXISTS {schema}.secrets (id int)")
    await run(postgres, owner, f"CREATE SEQUENCE IF NOT EXISTS {schema}.numbers")
    await run(postgres, owner, f"CREATE OR REPLACE FUNCTION {schema}.tell() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    for attempt in (
        f"SELECT * FROM {schema}.secrets",
        f"INSERT INTO {schema}.secrets VALUES (1)",
        f"UPDATE {schema}.secrets SET id = 2",
        f"DELETE FROM {schema}.secrets",
        f"TRUNCATE {schema}.secrets",
        f"DROP TABLE {schema}.secrets",
        f"CREATE TABLE {schema}.mine (id int)",
        f"CREATE TABLE {thief.service}.mine (LIKE {schema}.secrets)",
        f"SELECT nextval('{schema}.numbers')",
        f"SELECT {schema}.tell()",
        f"DROP SCHEMA {schema} CASCADE",
        f"GRANT USAGE ON SCHEMA {schema} TO {thief.name}",
        f"SET ROLE {owner.name}",
        f"SET SESSION AUTHORIZATION {owner.name}",
        f"ALTER ROLE {owner.name} PASSWORD 'mine'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(postgres, thief, attempt)


@pytest.mark.parametrize("role", ROLES, ids=str)
async def test_a_role_has_no_rights_outside_its_schema(postgres: Postgres, role: Role) -> None:
    for attempt in (
        "CREATE TABLE public.mine (id int)",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "CREATE TEMPORARY TABLE mine (id int)",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT passwd FROM pg_shadow",
        "ALTER SYSTEM SET fsync = off",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(postgres, role, attempt)
    assert not await run(postgres, role, "SELECT has_schema_privilege('public', 'USAGE')")
    assert not await run(postgres, role, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


@pytest.mark.parametrize("database", ["postgres", "template1"])
async def test_a_role_enters_no_other_database(postgres: Postgres, database: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(postgres, ROLES[0], "SELECT 1", database)


async def test_repeating_it_keeps_the_data_and_sets_new_passwords(postgres: Postgres) -> None:
    keys = ROLES[0]
    await run(postgres, keys, "CREATE TABLE keys.kept AS SELECT 1 AS id")
    changed = Role(service="keys", password="f" * 8)
    await roles.ensure(postgres, (changed, *ROLES[1:]))
    assert await run(postgres, changed, "SELECT id FROM keys.kept") == 1
    with pytest.raises(asyncpg.InvalidPasswordError):
        await run(postgres, keys, "SELECT 1")


async def test_it_finishes_what_a_killed_start_began(server: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    await admin.execute("DROP ROLE IF EXISTS odea_quota")
    await admin.close()
    await roles.ensure(server.postgres, ROLES)
    assert await run(server.postgres, ROLES[1], "SELECT current_user") == "odea_quota"


async def test_a_password_that_is_not_the_databases_is_one_clear_line(server: EmbeddedPostgres) -> None:
    stranger = Postgres.at(server.postgres.cluster, "guess")
    with pytest.raises(LocalError, match=r"secrets\.json"):
        await roles.ensure(stranger, ROLES)


async def test_no_password_shows_in_a_repr(postgres: Postgres) -> None:
    assert postgres.password not in repr(postgres)
    assert ROLES[0].password not in repr(ROLES[0])
    assert postgres.password not in repr(postgres.server_command())
