"""Migrations: Alembic's order and bookkeeping, plain SQL for the content, one runner at a time.

Each service keeps its steps in `migrations/versions/`: `0001_name.py` names the revision and its predecessor and calls
`run_sql(__file__)`; `0001_name.sql` beside it is the step itself. The version table lives in the service's own schema.
An advisory lock makes late starters wait until the first is done, then find nothing left to do.
"""

from importlib.resources import files
from pathlib import Path

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

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('odea migrations of ' || current_schema(), 0))"


def run_sql(migration: str) -> None:
    """Run the `.sql` file beside the Python file `migration`, whole, in the migration's transaction."""
    script = Path(migration).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver itself, because it takes a script; the SQL layers above prepare one statement at a time.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    await_only(driver.execute(script))


async def migrate(settings: DatabaseSettings, package: str, schema: str) -> None:
    """Bring `schema` to the newest revision that `package` has. Safe to run many times and at the same time."""
    script = ScriptDirectory(str(files(package) / "migrations"))
    url = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://", 1)
    arguments = {"server_settings": {"search_path": schema, "application_name": f"odea-{schema}-migrate"}}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(_LOCK))
            await connection.run_sync(_upgrade, script, schema)
    finally:
        await engine.dispose()
    structlog.get_logger().info("schema is at the newest revision", schema=schema, revision=script.get_current_head())


def _upgrade(connection: Connection, script: ScriptDirectory, schema: str) -> None:
    def steps(revision: object, _context: object) -> list[object]:
        return list(script._upgrade_revs("head", revision))  # type: ignore[arg-type]  # noqa: SLF001

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table="schema_version", version_table_schema=schema)
        environment.run_migrations()
