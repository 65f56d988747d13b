"""A quota replica on a database of its own, and a look into that database."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from integration.quota.harness import Ledger, open_ledger, open_ledgers
from support.databases import Databases


@pytest.fixture
async def quota_dsn(databases: Databases) -> str:
    """A fresh database with the schema `quota`."""
    return await databases.create("quota")


@pytest.fixture
async def sql(quota_dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    """A look into the database, with the service's own role."""
    connection = await asyncpg.connect(quota_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def ledger(quota_dsn: str) -> AsyncGenerator[Ledger]:
    """One replica."""
    async with open_ledger(quota_dsn) as opened:
        yield opened


@pytest.fixture
async def ledgers(quota_dsn: str) -> AsyncGenerator[list[Ledger]]:
    """Three replicas on one database."""
    async with open_ledgers(quota_dsn, 3) as opened:
        yield opened
