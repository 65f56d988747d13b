"""A quota service inside the test's own loop, on a real database."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from odea_quota.batcher import Batcher
from odea_quota.plan_store import PlanStore
from odea_quota.store import HoldStore
from odea_runtime.background import running
from odea_runtime.postgres import Database
from odea_runtime.settings import DatabaseSettings, load
from support.databases import Databases


class Ledger:
    """The parts of one quota replica, without the bus."""

    def __init__(self, database: Database, batcher: Batcher) -> None:
        self.database = database
        self.store = HoldStore(database)
        self.plans = PlanStore(database)
        self.submit = batcher.submit


@asynccontextmanager
async def open_ledger(dsn: str, *, lanes: int = 2, pool: int = 4) -> AsyncGenerator[Ledger]:
    """One replica on the database `dsn`."""
    environ = {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": dsn, "ODEA_DATABASE_POOL_MAX": str(pool)}
    database = Database(load(DatabaseSettings, environ), "odea_quota", "quota")
    await database.start()
    batcher = Batcher(HoldStore(database).apply, batch_max=400, queue_max=5000, lanes=lanes)
    async with running(batcher.run()):
        yield Ledger(database, batcher)
    await database.stop()


@pytest.fixture
async def quota_dsn(databases: Databases) -> str:
    return await databases.create("quota")


@pytest.fixture
async def ledger(quota_dsn: str) -> AsyncGenerator[Ledger]:
    async with open_ledger(quota_dsn) as opened:
        yield opened
