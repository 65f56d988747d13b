"""The database `odea` with a login role and a schema for each service, and no way from one to another."""

import asyncpg
import msgspec

from odea_local.errors import LocalError
from odea_local.postgres import PORT, Postgres

DATABASE = "odea"


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A service's login; it owns the schema of the same service and sees nothing else."""

    service: str
    password: str

    @property
    def name(self) -> str:
        """The login name."""
        return f"odea_{self.service}"

    def __repr__(self) -> str:
        """Names the role and hides its password."""
        return f"Role({self.name})"


async def ensure(postgres: Postgres, roles: tuple[Role, ...]) -> None:
    """Make what is missing and set the passwords; safe to repeat, also after a start that was killed half-way.

    Raises:
        LocalError: the database does not let us, or has no room.
    """
    try:
        await _ensure_database(postgres, roles)
        await _ensure_schemas(postgres, roles)
    except asyncpg.InvalidPasswordError:
        raise LocalError(
            "the database does not take the password in secrets.json. Put the file back that was made with it."
        ) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise LocalError(f"the database could not be set up: {error}") from error


async def _ensure_database(postgres: Postgres, roles: tuple[Role, ...]) -> None:
    """Roles and database. The names are ours and the passwords hex digits, so nothing needs quoting."""
    admin = await asyncpg.connect(postgres.admin_dsn(), port=PORT)
    try:
        for role in roles:
            known = await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role.name)
            verb = "ALTER" if known else "CREATE"
            await admin.execute(f"{verb} ROLE {role.name} LOGIN PASSWORD '{role.password}'")
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await admin.execute(f"CREATE DATABASE {DATABASE}")
        for database in (DATABASE, "postgres", "template1"):
            await admin.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        for role in roles:
            await admin.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {role.name}")
    finally:
        await admin.close()


async def _ensure_schemas(postgres: Postgres, roles: tuple[Role, ...]) -> None:
    owner = await asyncpg.connect(postgres.admin_dsn(DATABASE), port=PORT)
    try:
        await owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for role in roles:
            await owner.execute(f"CREATE SCHEMA IF NOT EXISTS {role.service} AUTHORIZATION {role.name}")
    finally:
        await owner.close()
