"""What operators run by hand makes the same logins, rights and schemas as the embedded stack makes for itself."""

import os
import subprocess
from collections.abc import Generator

import asyncpg
import pytest

from integration.local.test_roles import ROLES
from odea_local import roles
from odea_local.embedded import EmbeddedPostgres, embedded_postgres
from odea_local.pgtools import libpq_environ
from odea_local.roles import DATABASE
from support.lock import ROOT

SCRIPT = ROOT / "deploy/k8s/components/postgres/roles.sql"
RIGHTS = """
SELECT 'database', datname, a.grantee::regrole::text, a.privilege_type FROM pg_database, aclexplode(datacl) AS a
WHERE datname IN ('odea', 'postgres', 'template1')
UNION ALL
SELECT 'schema', nspname || ' of ' || nspowner::regrole, a.grantee::regrole::text, a.privilege_type
FROM pg_namespace LEFT JOIN LATERAL aclexplode(nspacl) AS a ON true
WHERE nspname IN ('keys', 'quota', 'synth', 'public')
UNION ALL
SELECT 'role', rolname, rolcanlogin::text || rolsuper || rolcreatedb || rolcreaterole || rolbypassrls,
    rolconnlimit::text
FROM pg_roles WHERE rolname LIKE 'odea%'
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres]:
    with embedded_postgres(tmp_path_factory.mktemp("by-hand")) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres]:
    with embedded_postgres(tmp_path_factory.mktemp("by-itself")) as server:
        yield server


def by_hand(server: EmbeddedPostgres) -> None:
    passwords = [f"--set={role.service}={role.password}" for role in ROLES]
    subprocess.run(
        [
            server.postgres.binaries / "psql",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            *passwords,
            "-f",
            SCRIPT,
        ],
        check=True,
        env={**os.environ, **libpq_environ(server.postgres.admin_dsn())},
        timeout=60,
    )


async def rights(server: EmbeddedPostgres) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(server.postgres.admin_dsn(DATABASE))
    try:
        return [tuple(row) for row in await connection.fetch(RIGHTS)]
    finally:
        await connection.close()


async def test_the_script_makes_what_the_stack_makes(server: EmbeddedPostgres, other: EmbeddedPostgres) -> None:
    await roles.ensure(server.postgres, ROLES)
    by_hand(other)
    made = await rights(other)
    assert made == await rights(server)
    assert len(made) > 10
    by_hand(other)
    assert await rights(other) == made
    for role in ROLES:
        connection = await asyncpg.connect(other.postgres.dsn(role.name, role.password, DATABASE))
        await connection.close()
