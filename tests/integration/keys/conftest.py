"""A running keys service on a database of its own, and a caller."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from integration.keys.harness import Client, calling, running, settings_for
from odea_keys.settings import KeysSettings
from support.databases import Databases


@pytest.fixture
async def settings(nats_url: str, databases: Databases) -> KeysSettings:
    """A fresh database with the schema `keys`, and the servers that the module's tests share."""
    return settings_for(nats_url, await databases.create("keys"))


@pytest.fixture
async def database(settings: KeysSettings) -> AsyncGenerator[asyncpg.Connection]:
    """A look into the service's database, with the service's own role."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    yield connection
    await connection.close()


@pytest.fixture
async def client(settings: KeysSettings) -> AsyncGenerator[Client]:
    """A caller. Whether anybody answers is up to the test."""
    async with calling(settings) as client:
        yield client


@pytest.fixture
async def service(settings: KeysSettings) -> AsyncGenerator[None]:
    """The service as most tests want it."""
    async with running(settings):
        yield
