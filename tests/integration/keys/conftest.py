"""A running keys service on a database of its own, and a bus to call it by."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import asyncpg
import pytest

from odea_contracts import keys
from odea_contracts.keys import Issued, Scope, Tenant, TenantList
from odea_keys.app import serve
from odea_keys.settings import KeysSettings
from odea_runtime.bus import Bus, BusError
from odea_runtime.settings import load
from support.databases import Databases
from support.waiting import until

PEPPER = "p1:" + "5e" * 32


def settings_for(nats_url: str, dsn: str, **more: str) -> KeysSettings:
    environ = {
        "ODEA_NATS_URL": nats_url,
        "ODEA_DATABASE_URL": dsn,
        "ODEA_OPS_ADDRESS": "127.0.0.1:0",
        "ODEA_KEYS_PEPPERS": PEPPER,
        "ODEA_DRAIN_S": "5",
    }
    return load(KeysSettings, environ | {f"ODEA_{name.upper()}": value for name, value in more.items()})


class Client:
    """The bus with the calls that most tests begin with."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.call = bus.call

    async def new_tenant(self, name: str = "Hall") -> Tenant:
        reply = await self.call(keys.TENANT_CREATE, keys.TenantCreate(name=name, plan="small", actor="tester"))
        assert isinstance(reply, Tenant)
        return reply

    async def new_key(self, tenant_id: str, *, own_account: bool = False, expires_at_ms: int | None = None) -> Issued:
        request = keys.Issue(
            tenant_id=tenant_id,
            name="main",
            scopes=(Scope.SPEECH,),
            own_account=own_account,
            expires_at_ms=expires_at_ms,
            actor="tester",
        )
        reply = await self.call(keys.ISSUE, request)
        assert isinstance(reply, Issued)
        return reply


class Start(Protocol):
    """Starts a keys service and stops it at the end of the block."""

    def __call__(self, settings: KeysSettings) -> AbstractAsyncContextManager[None]: ...


@pytest.fixture
async def dsn(databases: Databases) -> str:
    """A fresh database with the schema `keys`."""
    return await databases.create("keys")


@pytest.fixture
async def database(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    """A look into the service's database, with the service's own role."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def client(nats_url: str, dsn: str) -> AsyncGenerator[Client]:
    """A caller. Whether anybody answers is up to the test."""
    bus = Bus(settings_for(nats_url, dsn), "tests")
    await bus.start()
    yield Client(bus)
    await bus.stop()


@pytest.fixture
def start(client: Client) -> Start:
    @asynccontextmanager
    async def started(settings: KeysSettings) -> AsyncGenerator[None]:
        async with running(client.bus, settings):
            yield

    return started


@asynccontextmanager
async def running(bus: Bus, settings: KeysSettings) -> AsyncGenerator[None]:
    """The service in this process, on real servers."""
    stop = asyncio.Event()
    service = asyncio.create_task(serve(settings, stop))
    try:
        await until(lambda: _answers(bus, service))
        yield
    finally:
        stop.set()
        await service


async def _answers(bus: Bus, service: asyncio.Task[None]) -> bool:
    assert not service.done(), "the service ended"
    try:
        await bus.call(keys.TENANT_LIST, TenantList(limit=1))
    except BusError:
        return False
    return True


@pytest.fixture
async def service(start: Start, nats_url: str, dsn: str) -> AsyncGenerator[None]:
    """The service as most tests want it."""
    async with start(settings_for(nats_url, dsn)):
        yield
