"""A change under a name is made once, however often it is asked for, and no secret is stored for that."""

import asyncio

import asyncpg
import pytest

from integration.keys.harness import NEW_PEPPER, OLD_PEPPER, Client, calling, running, settings_for
from odea_contracts import keys, tenants
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Issued, Principal, Scope
from odea_contracts.tenants import Tenant, TenantCreate
from odea_keys.settings import KeysSettings
from support.waiting import until

NAME = "order-7"


def issue(tenant_id: str, *, name: str = "main", key: str = NAME, actor: str = "tester") -> keys.Issue:
    return keys.Issue(tenant_id=tenant_id, name=name, scopes=(Scope.SPEECH,), idempotency_key=key, actor=actor)


def assert_reused(reply: object) -> None:
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.CONFLICT, "idempotency_key")


async def test_a_repeated_issue_gives_the_same_key_and_secret(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    """Two replicas, twelve callers at once, and one more later."""
    async with running(settings), running(settings):
        tenant = await client.new_tenant()
        replies = await asyncio.gather(*(client.call(keys.ISSUE, issue(tenant.tenant_id)) for _ in range(12)))
        replies.append(await client.call(keys.ISSUE, issue(tenant.tenant_id)))
        first = replies[0]
        assert isinstance(first, Issued)
        assert all(reply == first for reply in replies)
        assert isinstance(await client.verify(first.secret), Principal)
    assert await database.fetchval("SELECT count(*) FROM keys.keys") == 1
    assert await database.fetchval("SELECT count(*) FROM keys.audit WHERE action = 'issued'") == 1


@pytest.mark.usefixtures("service")
async def test_a_name_with_other_content_is_a_conflict_and_another_actor_s_is_another_name(client: Client) -> None:
    tenant = await client.new_tenant()
    first = await client.call(keys.ISSUE, issue(tenant.tenant_id))
    assert isinstance(first, Issued)
    assert_reused(await client.call(keys.ISSUE, issue(tenant.tenant_id, name="other")))
    other = await client.call(keys.ISSUE, issue(tenant.tenant_id, actor="someone else"))
    assert isinstance(other, Issued)
    assert other.key.key_id != first.key.key_id
    assert other.secret != first.secret


@pytest.mark.usefixtures("service")
async def test_what_was_refused_may_be_asked_again_under_its_name(client: Client) -> None:
    refused = await client.call(keys.ISSUE, issue("ten_0"))
    assert isinstance(refused, Failure)
    assert refused.code is ErrorCode.NOT_FOUND
    tenant = await client.new_tenant()
    assert isinstance(await client.call(keys.ISSUE, issue(tenant.tenant_id)), Issued)


@pytest.mark.usefixtures("service")
async def test_a_repeated_rotation_rotates_once(client: Client, database: asyncpg.Connection) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    request = keys.Rotate(key_id=issued.key.key_id, grace_ms=60_000, idempotency_key=NAME, actor="tester")
    replies = await asyncio.gather(*(client.call(keys.ROTATE, request) for _ in range(8)))
    first = replies[0]
    assert isinstance(first, Issued)
    assert all(reply == first for reply in replies)
    assert isinstance(await client.verify(first.secret), Principal)
    assert isinstance(await client.verify(issued.secret), Principal), "the grace runs"
    assert await database.fetchval("SELECT count(*) FROM keys.secrets") == 2
    await client.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))
    late = await client.call(keys.ROTATE, request)
    assert late == first, "whatever became of the key since"


@pytest.mark.usefixtures("service")
async def test_a_repeated_tenant_is_the_first_answer_whatever_its_name_is_by_now(client: Client) -> None:
    request = TenantCreate(name="Hall", idempotency_key=NAME, actor="tester")
    tenant = await client.call(tenants.TENANT_CREATE, request)
    assert isinstance(tenant, Tenant)
    await client.call(tenants.TENANT_UPDATE, tenants.TenantUpdate(tenant_id=tenant.tenant_id, name="Great Hall"))
    assert await client.call(tenants.TENANT_CREATE, request) == tenant
    assert_reused(
        await client.call(
            tenants.TENANT_CREATE, TenantCreate(name="Hall", plan="big", idempotency_key=NAME, actor="tester")
        )
    )


@pytest.mark.usefixtures("service")
async def test_what_is_stored_is_not_the_secret(client: Client, database: asyncpg.Connection) -> None:
    """P6: neither it nor its digest nor the name that it is derived with."""
    issued = await client.call(keys.ISSUE, issue((await client.new_tenant()).tenant_id, key="a-name-like-no-other"))
    assert isinstance(issued, Issued)
    stored = ""
    for table in ("tenants", "keys", "secrets", "audit", "repeats", "outbox"):
        rows = await database.fetch(f"SELECT * FROM keys.{table}")
        stored += repr([tuple(row) for row in rows])
    secret = issued.secret.split("_")[3]
    assert issued.key.public_id in stored
    assert secret not in stored
    assert "a-name-like-no-other" not in stored


async def test_a_name_is_forgotten_in_time_and_with_it_the_way_to_its_secret(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    async with running(settings):
        tenant = await client.new_tenant()
        first = await client.call(keys.ISSUE, issue(tenant.tenant_id))
        await database.execute("UPDATE keys.repeats SET created_at = created_at - interval '25 hours'")
        second = await client.call(keys.ISSUE, issue(tenant.tenant_id))
        assert isinstance(first, Issued)
        assert isinstance(second, Issued)
        assert second.key.key_id != first.key.key_id
        await database.execute("UPDATE keys.repeats SET created_at = created_at - interval '25 hours'")

    async def is_forgotten() -> bool:
        return await database.fetchval("SELECT count(*) FROM keys.repeats") == 0

    async with running(settings):
        await until(is_forgotten)


async def test_a_pepper_that_is_gone_shows_no_secret_again(
    settings: KeysSettings, nats_url: str, client: Client
) -> None:
    dsn = settings.database_url.get_secret_value()
    async with running(settings):
        tenant = await client.new_tenant()
        first = await client.call(keys.ISSUE, issue(tenant.tenant_id))
        assert isinstance(first, Issued)
    both = settings_for(nats_url, dsn, keys_peppers=f"{NEW_PEPPER},{OLD_PEPPER}")
    async with running(both), calling(both) as caller:
        assert await caller.call(keys.ISSUE, issue(tenant.tenant_id)) == first, "an old pepper derives its own"
    new = settings_for(nats_url, dsn, keys_peppers=NEW_PEPPER)
    async with running(new), calling(new) as caller:
        reply = await caller.call(keys.ISSUE, issue(tenant.tenant_id))
    assert_reused(reply)
    assert isinstance(reply, Failure)
    assert first.key.key_id in reply.message
