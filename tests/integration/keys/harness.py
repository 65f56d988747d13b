"""The keys service inside the test's own loop, and a caller with the requests that tests begin with."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg

from odea_contracts import keys, tenants
from odea_contracts.keys import Issued, Scope, Verify, VerifyReply
from odea_contracts.keytext import parse_key
from odea_contracts.tenants import Tenant
from odea_keys.app import serve
from odea_keys.settings import KeysSettings
from odea_runtime.bus import Bus, BusError
from odea_runtime.settings import load
from support.waiting import until

OLD_PEPPER = "p1:" + "5e" * 32
NEW_PEPPER = "p2:" + "a7" * 32


def settings_for(nats_url: str, dsn: str, **more: str) -> KeysSettings:
    environ = {
        "ODEA_NATS_URL": nats_url,
        "ODEA_DATABASE_URL": dsn,
        "ODEA_OPS_ADDRESS": "127.0.0.1:0",
        "ODEA_KEYS_PEPPERS": OLD_PEPPER,
        "ODEA_DRAIN_S": "5",
        # A busy machine is no fault of the service; where time is promised, the test measures it.
        "ODEA_CALL_TIMEOUT_S": "10",
    }
    return load(KeysSettings, environ | {f"ODEA_{name.upper()}": value for name, value in more.items()})


@asynccontextmanager
async def running(settings: KeysSettings) -> AsyncGenerator[None]:
    """The service, from its first answer to its orderly end."""
    stop = asyncio.Event()
    service = asyncio.create_task(serve(settings, stop))
    try:
        async with calling(settings) as client:
            await until(lambda: client.is_answered(service))
        yield
    finally:
        stop.set()
        await service


@asynccontextmanager
async def calling(settings: KeysSettings) -> AsyncGenerator["Client"]:
    """A caller on a connection of its own. Whether anybody answers is another matter."""
    bus = Bus(settings, "tests")
    await bus.start()
    try:
        yield Client(bus)
    finally:
        await bus.stop()


class Client:
    """The bus, and the requests that most tests begin with."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.call = bus.call

    async def is_answered(self, service: asyncio.Task[None]) -> bool:
        assert not service.done(), "the service ended by itself"
        try:
            await self.call(tenants.TENANT_LIST, tenants.TenantList(limit=1))
        except BusError:
            return False
        return True

    async def new_tenant(self, name: str = "Hall") -> Tenant:
        reply = await self.call(tenants.TENANT_CREATE, tenants.TenantCreate(name=name, plan="small", actor="tester"))
        assert isinstance(reply, Tenant)
        return reply

    async def new_key(self, tenant_id: str, *, own_account: bool = False, expires_at_ms: int | None = None) -> Issued:
        request = keys.Issue(
            tenant_id=tenant_id,
            name="main",
            scopes=(Scope.SPEECH,),
            own_account=own_account,
            expires_at_ms=expires_at_ms,
            plan="tiny",
            actor="tester",
        )
        reply = await self.call(keys.ISSUE, request)
        assert isinstance(reply, Issued)
        return reply

    async def rotate(self, key_id: str, *, grace_ms: int = 0) -> Issued:
        reply = await self.call(keys.ROTATE, keys.Rotate(key_id=key_id, grace_ms=grace_ms, actor="tester"))
        assert isinstance(reply, Issued)
        return reply

    async def verify(self, text: str) -> VerifyReply:
        """What the service says to a key's text, which does not cross the bus."""
        return await self.call(keys.VERIFY, verify_request(text))


def verify_request(text: str) -> Verify:
    parsed = parse_key(text)
    assert parsed is not None
    return Verify(public_id=parsed.public_id, digest=parsed.digest)


async def read_clock_ms(database: asyncpg.Connection) -> int:
    """The time by which keys are judged."""
    now_ms = await database.fetchval("SELECT keys.to_ms(clock_timestamp())")
    assert isinstance(now_ms, int)
    return now_ms


async def is_hanging(database: asyncpg.Connection, *, for_s: float = 0.0) -> bool:
    """Whether somebody has waited for a lock for that long."""
    query = (
        "SELECT count(*) > 0 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND clock_timestamp() - query_start > $1 * interval '1 second'"
    )
    return bool(await database.fetchval(query, for_s))
