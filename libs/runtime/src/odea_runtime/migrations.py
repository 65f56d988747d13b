"""Migrations: Alembic's order and bookkeeping, plain SQL for the content, one runner at a time.

Each service keeps its steps in `migrations/versions/`: `0001_name.py` names the revision and its predecessor and calls
`run_sql(__file__)`; `0001_name.sql` beside it is the step itself. The version table lives in the service's own schema.
An advisory lock makes late starters wait until the first is done, then find nothing left to do.

Steps only add, so a version also runs on the schemas of later ones: a revision that it does not know is a later one's,
and it leaves that alone. That is what a rollback stands on.
"""

import asyncio
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import asyncpg
import structlog
from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from odea_runtime.settings import DatabaseSettings

_POLL_S = 0.5
_BOUNDS = "SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '15min'"
"""Of every step. Whoever waits for a table keeps out all who come later, so a step gives up soon and is tried again."""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('odea migrations of ' || current_schema(), 0))"


class SchemaNotReadyError(Exception):
    """The schema had not been migrated when the wait for it was ended."""


def run_sql(migration: str) -> None:
    """Run the `.sql` file beside the Python file `migration`, whole, in the migration's transaction."""
    script = Path(migration).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver itself, because it takes a script; the SQL layers above prepare one statement at a time.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    await_only(driver.execute(script))


async def migrate(settings: DatabaseSettings, package: str, schema: str) -> None:
    """Bring `schema` to the newest revision that `package` has. Safe to run many times and at the same time.

    A schema that a later version has migrated already stays as it is.
    """
    script = _script(package)
    url = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://", 1)
    arguments = {"server_settings": {"search_path": schema, "application_name": f"odea-{schema}-migrate"}}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(_LOCK))
            for bound in _BOUNDS.split("; "):
                await connection.execute(text(bound))
            revision = await connection.run_sync(_upgrade, script, schema)
    finally:
        await engine.dispose()
    structlog.get_logger().info("schema is ready", schema=schema, revision=revision)


async def await_schema(settings: DatabaseSettings, package: str, schema: str, stop: asyncio.Event) -> None:
    """Return when `schema` is at the newest revision that `package` has, or beyond; wait for the database, too.

    Raises:
        SchemaNotReadyError: `stop` was set before.
    """
    script, log = _script(package), structlog.get_logger()
    known = {step.revision for step in script.walk_revisions()}
    told: str | None = None
    while not stop.is_set():
        revision, trouble = await _look(settings, schema)
        if revision is not None and (revision == script.get_current_head() or revision not in known):
            log.info("schema is ready", schema=schema, revision=revision)
            return
        waiting_for = trouble or f"revision {script.get_current_head()} instead of {revision}"
        if waiting_for != told:
            log.info("waiting for the schema", schema=schema, waiting_for=waiting_for)
            told = waiting_for
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _POLL_S)
    raise SchemaNotReadyError(schema)


async def _look(settings: DatabaseSettings, schema: str) -> tuple[str | None, str | None]:
    """The revision of `schema`, if it has one, and what kept us from looking."""
    try:
        async with asyncio.timeout(settings.database_timeout_s):
            connection = await asyncpg.connect(
                settings.database_url.get_secret_value(),
                command_timeout=settings.database_timeout_s,
                server_settings={"application_name": f"odea-{schema}-await-schema"},
            )
        try:
            # The name is one of our own schemas, not an input.
            return await connection.fetchval(f"SELECT version_num FROM {schema}.schema_version"), None  # noqa: S608
        finally:
            await connection.close(timeout=settings.database_timeout_s)
    except asyncpg.UndefinedTableError:
        return None, None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return None, type(error).__name__


def _script(package: str) -> ScriptDirectory:
    return ScriptDirectory(str(files(package) / "migrations"))


def _upgrade(connection: Connection, script: ScriptDirectory, schema: str) -> str | None:
    known = {step.revision for step in script.walk_revisions()}

    def steps(revision: object, _context: object) -> list[object]:
        if revision and not known.issuperset(revision if isinstance(revision, tuple) else (revision,)):
            return []
        return list(script._upgrade_revs("head", revision))  # type: ignore[arg-type]  # noqa: SLF001

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table="schema_version", version_table_schema=schema)
        environment.run_migrations()
        return environment.get_context().get_current_revision()
