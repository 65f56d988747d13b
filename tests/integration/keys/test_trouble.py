"""Storage and bus come and go: trouble is named in time, never a refusal, and heals by itself (P9)."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from integration.keys.harness import Client, calling, is_hanging, running, settings_for, verify_request
from odea_contracts import keys, tenants
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Principal, Refusal, Refused, Scope
from odea_keys.announcer import Announcer
from odea_keys.handlers import Handlers
from odea_keys.keyring import Keyring
from odea_keys.settings import KeysSettings
from odea_keys.store import Store
from odea_keys.tenant_store import TenantStore
from odea_runtime.audit import AuditLog
from odea_runtime.bus import Bus, BusError
from odea_runtime.outbox import Outbox
from odea_runtime.postgres import Database
from odea_runtime.repeats import Repeats
from support.databases import Databases
from support.servers import NatsServer, PostgresServer
from support.waiting import until

NAMED_WITHIN_S = 2.0


def one_of_each(tenant_id: str, key_id: str, text: str) -> list[tuple[Endpoint[Any, Any], Message]]:
    tenant, key = tenants.TenantRef(tenant_id=tenant_id), keys.KeyRef(key_id=key_id)
    return [
        (keys.VERIFY, verify_request(text)),
        (keys.ISSUE, keys.Issue(tenant_id=tenant_id, name="x", scopes=(Scope.SPEECH,))),
        (keys.ROTATE, keys.Rotate(key_id=key_id)),
        (keys.REVOKE, key),
        (keys.GET, key),
        (keys.LIST, keys.KeyList(tenant_id=tenant_id)),
        (tenants.TENANT_CREATE, tenants.TenantCreate(name="Other")),
        (tenants.TENANT_GET, tenant),
        (tenants.TENANT_LIST, tenants.TenantList()),
        (tenants.TENANT_SUSPEND, tenant),
        (tenants.TENANT_RESUME, tenant),
    ]


async def assert_named_in_time(client: Client, requests: list[tuple[Endpoint[Any, Any], Message]]) -> None:
    async def answer(endpoint: Endpoint[Any, Any], request: Message) -> tuple[Any, float]:
        began = time.monotonic()
        reply = await client.call(endpoint, request)
        return reply, time.monotonic() - began

    for reply, took_s in await asyncio.gather(*(answer(*request) for request in requests)):
        assert isinstance(reply, Failure)
        assert reply.code is ErrorCode.KEYS_UNAVAILABLE
        assert took_s < NAMED_WITHIN_S


async def is_good(client: Client, text: str) -> bool:
    try:
        reply = await client.verify(text)
    except BusError:
        return False
    assert not isinstance(reply, Refused), "trouble is never a refusal"
    return isinstance(reply, Principal)


async def test_a_database_that_died_is_trouble_until_it_is_back(
    nats_url: str, breakable_postgres: PostgresServer
) -> None:
    settings = settings_for(nats_url, await Databases(breakable_postgres.dsn).create("keys"))
    async with running(settings), calling(settings) as client:
        tenant = await client.new_tenant()
        issued = await client.new_key(tenant.tenant_id)
        assert await is_good(client, issued.secret)
        for _ in range(2):
            breakable_postgres.kill()
            await assert_named_in_time(client, one_of_each(tenant.tenant_id, issued.key.key_id, issued.secret))
            breakable_postgres.restart()
            await until(lambda: is_good(client, issued.secret))


async def test_a_service_that_starts_before_its_database_heals(
    nats_url: str, breakable_postgres: PostgresServer
) -> None:
    settings = settings_for(nats_url, await Databases(breakable_postgres.dsn).create("keys"))
    breakable_postgres.stop()
    async with running(settings), calling(settings) as client:
        await assert_named_in_time(client, [(tenants.TENANT_CREATE, tenants.TenantCreate(name="Hall"))])
        breakable_postgres.restart()
        assert (await client.new_tenant()).name == "Hall"


@pytest.mark.usefixtures("service")
async def test_a_database_that_hangs_is_trouble_in_time(client: Client, database: asyncpg.Connection) -> None:
    """Also for those that first wait for a connection and then, on it, for the database."""
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    requests = one_of_each(tenant.tenant_id, issued.key.key_id, issued.secret)

    async with database.transaction():
        await database.execute("LOCK TABLE keys.tenants, keys.keys, keys.secrets IN ACCESS EXCLUSIVE MODE")
        first = asyncio.create_task(assert_named_in_time(client, requests))
        await until(lambda: is_hanging(database, for_s=0.7))
        await assert_named_in_time(client, requests)
        await first
    reply = await client.call(keys.GET, keys.KeyRef(key_id=issued.key.key_id))
    assert reply == issued.key, "what was not answered did not happen"


async def test_a_bus_that_went_away_is_found_again(settings: KeysSettings, breakable_nats: NatsServer) -> None:
    dsn = settings.database_url.get_secret_value()
    settings = settings_for(breakable_nats.url, dsn)
    async with running(settings), calling(settings) as client:
        issued = await client.new_key((await client.new_tenant()).tenant_id)
        breakable_nats.kill()
        await until(lambda: not client.bus.connected)
        breakable_nats.restart()
        await until(lambda: is_good(client, issued.secret))


async def test_the_service_ends_in_order_without_its_bus(settings: KeysSettings, breakable_nats: NatsServer) -> None:
    async with running(settings_for(breakable_nats.url, settings.database_url.get_secret_value())):
        breakable_nats.stop()


async def test_a_revocation_that_the_bus_did_not_hear_is_told_by_the_outbox(
    settings: KeysSettings, breakable_nats: NatsServer
) -> None:
    """P5: the word to the caches fails, the change stands, and its event follows when the bus is back."""
    settings = settings_for(breakable_nats.url, settings.database_url.get_secret_value())
    storage, bus = Database(settings, "odea_keys", "keys"), Bus(settings, "keys")
    outbox = Outbox(storage, bus)
    repeats = Repeats(storage, keep_s=3600)
    handlers = Handlers(
        Store(storage, repeats),
        TenantStore(storage, repeats),
        AuditLog(storage),
        Keyring(settings.peppers()),
        Announcer(bus, outbox),
        timeout_s=5,
    )
    await storage.start()
    await bus.start()
    relay = asyncio.create_task(outbox.run())
    tenant = await handlers.tenant_create(tenants.TenantCreate(name="Hall"))
    assert isinstance(tenant, tenants.Tenant)
    issued = await handlers.issue(keys.Issue(tenant_id=tenant.tenant_id, name="x", scopes=(Scope.SPEECH,)))
    assert isinstance(issued, keys.Issued)
    breakable_nats.kill()
    await until(lambda: not bus.connected)
    revoked = await handlers.revoke(keys.KeyRef(key_id=issued.key.key_id))
    assert isinstance(revoked, keys.Key)
    assert await handlers.verify(verify_request(issued.secret)) == Refused(reason=Refusal.REVOKED)
    breakable_nats.restart()

    async def is_told() -> bool:
        async with storage.connection() as connection:
            return await connection.fetchval("SELECT count(*) FROM keys.outbox") == 0

    await until(is_told, within_s=20)
    event = await bus.client.jetstream().get_last_msg("ODEA_EVENTS", "odea.v1.keys.evt.revoked")
    assert issued.key.key_id.encode() in (event.data or b"")
    relay.cancel()
    await asyncio.wait([relay])
    await bus.stop()
    await storage.stop()
