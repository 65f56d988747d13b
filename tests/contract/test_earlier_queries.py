"""What the version before asks of its schema fits today's, since it still runs while today's is rolled out.

`earlier/<service>/<revision>.sql` are its statements, those of the outbox included: all that the service sent when the
schema was at that revision, the last before today's. `just upgrade-test` lets the version before really run.
"""

from pathlib import Path
from typing import Any, Final

import aiosql
import asyncpg
import pytest

from support.databases import SERVICES, Databases
from support.lock import ROOT

EARLIER: Final = Path(__file__).with_name("earlier")


def _revisions(service: str) -> list[str]:
    steps = ROOT.glob(f"services/{service}/src/*/migrations/versions/*.sql")
    return sorted(step.name.partition("_")[0] for step in steps)


@pytest.mark.parametrize("service", SERVICES)
async def test_the_version_before_can_go_on(databases: Databases, service: str) -> None:
    *_, before, newest = _revisions(service)
    kept = [path.stem for path in (EARLIER / service).iterdir()]
    assert kept == [before], f"{newest} is new: `just keep-queries {service} {before}`, and remove {kept}"
    queries: Any = aiosql.from_path(EARLIER / service / f"{before}.sql", "asyncpg")
    names = [name for name in queries.available_queries if not name.endswith("_cursor")]
    assert len(names) > 5
    connection = await asyncpg.connect(await databases.create(service), server_settings={"search_path": service})
    try:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for name in names:
            sql = getattr(queries, name).sql
            parameters = (await connection.prepare(sql)).get_parameters()
            given = f"({', '.join(['NULL'] * len(parameters))})" if parameters else ""
            # Only a plan needs the constraint that an ON CONFLICT names.
            await connection.execute(f"PREPARE {name} AS {sql}")
            await connection.execute(f"EXPLAIN EXECUTE {name} {given}")
    finally:
        await connection.close()
