"""Tenants are one a name, and pages go through everything once, in order of creation."""

import asyncio

import asyncpg
import pytest

from integration.keys.harness import Client, running
from odea_contracts import keys, tenants
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Issued, Key, KeyPage, Scope
from odea_contracts.tenants import Tenant, TenantPage
from odea_keys.settings import KeysSettings


@pytest.mark.usefixtures("service")
async def test_a_name_that_is_taken_gives_the_tenant_that_is_there(
    client: Client, database: asyncpg.Connection
) -> None:
    tenant = await client.new_tenant("Hall")
    await client.call(tenants.TENANT_SUSPEND, tenants.TenantRef(tenant_id=tenant.tenant_id))
    again = await client.new_tenant("Hall")
    assert again.tenant_id == tenant.tenant_id
    assert again.suspended, "it is given as it is, not made anew"
    assert await database.fetchval("SELECT count(*) FROM keys.audit WHERE action = 'tenant_created'") == 1


async def test_one_name_at_once_makes_one_tenant(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    """Two replicas, twelve callers; the unique constraint decides."""
    async with running(settings), running(settings):
        made = await asyncio.gather(*(client.new_tenant("Hall") for _ in range(12)))
    assert len({tenant.tenant_id for tenant in made}) == 1
    assert await database.fetchval("SELECT count(*) FROM keys.tenants") == 1
    assert await database.fetchval("SELECT count(*) FROM keys.audit") == 1


async def test_revocations_at_once_are_one(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    async with running(settings), running(settings):
        issued = await client.new_key((await client.new_tenant()).tenant_id)
        reference = keys.KeyRef(key_id=issued.key.key_id)
        replies = await asyncio.gather(*(client.call(keys.REVOKE, reference) for _ in range(12)))
        assert len({reply.revoked_at_ms for reply in replies if isinstance(reply, Key)}) == 1
        assert len({repr(reply) for reply in replies}) == 1
        assert await client.call(keys.REVOKE, reference) == replies[0], "and so is a later one"
    assert await database.fetchval("SELECT count(*) FROM keys.audit WHERE action = 'revoked'") == 1


@pytest.mark.usefixtures("service")
async def test_pages_of_tenants(client: Client) -> None:
    made = [await client.new_tenant(f"Hall {index}") for index in range(7)]
    seen: list[Tenant] = []
    cursor: str | None = None
    sizes: list[int] = []
    while True:
        page = await client.call(tenants.TENANT_LIST, tenants.TenantList(cursor=cursor, limit=3))
        assert isinstance(page, TenantPage)
        seen += page.tenants
        sizes.append(len(page.tenants))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == made
    assert sizes == [3, 3, 1]


@pytest.mark.usefixtures("service")
async def test_pages_of_keys_hold_one_tenants_keys(client: Client) -> None:
    hall, other = await client.new_tenant("Hall"), await client.new_tenant("Other")
    made: list[Issued] = []
    for _ in range(4):
        made.append(await client.new_key(hall.tenant_id))
        await client.new_key(other.tenant_id)
    rotated = await client.rotate(made[1].key.key_id, grace_ms=60_000)
    first = await client.call(keys.LIST, keys.KeyList(tenant_id=hall.tenant_id, limit=2))
    assert isinstance(first, KeyPage)
    assert first.keys == (made[0].key, rotated.key)
    last = await client.call(keys.LIST, keys.KeyList(tenant_id=hall.tenant_id, cursor=first.next_cursor, limit=2))
    assert last == KeyPage(keys=(made[2].key, made[3].key), next_cursor=None), "a full last page ends the list"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("cursor", ["a", "zzz", "-", "key_0", "a2tleV8w", "' OR 1=1", "", "=" * 200])
async def test_a_cursor_that_no_page_gave_is_refused(client: Client, cursor: str) -> None:
    reply = await client.call(tenants.TENANT_LIST, tenants.TenantList(cursor=cursor))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.INVALID_VALUE, "cursor")


@pytest.mark.usefixtures("service")
async def test_scopes_are_kept_once_and_in_order(client: Client) -> None:
    tenant = await client.new_tenant()
    scopes = (Scope.ADMIN, Scope.SPEECH, Scope.ADMIN)
    issued = await client.call(keys.ISSUE, keys.Issue(tenant_id=tenant.tenant_id, name="x", scopes=scopes))
    assert isinstance(issued, Issued)
    assert issued.key.scopes == (Scope.SPEECH, Scope.ADMIN)


@pytest.mark.usefixtures("service")
async def test_names_are_data(client: Client, database: asyncpg.Connection) -> None:
    """P7: whatever a caller writes is stored as written and changes nothing else."""
    for name in ("'; DROP TABLE keys.audit; --", "%s :name $1", 'Ünïcode "quoted" \\ 🎭', "\u202eodd"):
        tenant = await client.new_tenant(name)
        assert await client.call(tenants.TENANT_GET, tenants.TenantRef(tenant_id=tenant.tenant_id)) == tenant
        assert tenant.name == name
    assert await database.fetchval("SELECT count(*) FROM keys.audit") == 4
