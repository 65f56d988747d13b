"""What an operator changes about a key or a tenant is there at once, audited, and told to every cache (P5)."""

import asyncio
from typing import Any

import msgspec
import pytest

from integration.keys.harness import Client, running
from odea_contracts import keys, tenants
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Issued, Key, KeyEvent, Principal, Scope
from odea_contracts.plans import Overrides
from odea_contracts.subjects import KEYS_CHANGED
from odea_contracts.tenants import Tenant
from odea_keys.settings import KeysSettings
from support.waiting import until

FAR_MS = 4_000_000_000_000
OFFICE = ("192.0.2.0/24", "2001:db8::/32")


def assert_refused(reply: object, code: ErrorCode, param: str) -> None:
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (code, param)


@pytest.mark.usefixtures("service")
async def test_an_update_changes_what_it_names_and_nothing_else(client: Client) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id, expires_at_ms=FAR_MS)
    key_id = issued.key.key_id
    key = issued.key
    for update, change in (
        (keys.KeyUpdate(key_id=key_id, name="Shop"), {"name": "Shop"}),
        (
            keys.KeyUpdate(key_id=key_id, scopes=(Scope.USAGE_READ, Scope.SPEECH)),
            {"scopes": (Scope.SPEECH, Scope.USAGE_READ)},
        ),
        (keys.KeyUpdate(key_id=key_id, allowed_cidrs=OFFICE), {"allowed_cidrs": OFFICE}),
        (keys.KeyUpdate(key_id=key_id, expires_at_ms=None), {"expires_at_ms": None}),
        (keys.KeyUpdate(key_id=key_id, expires_at_ms=FAR_MS + 1), {"expires_at_ms": FAR_MS + 1}),
        (keys.KeyUpdate(key_id=key_id, allowed_cidrs=()), {"allowed_cidrs": ()}),
    ):
        key = msgspec.structs.replace(key, **change)
        assert await client.call(keys.UPDATE, update) == key
        assert await client.call(keys.GET, keys.KeyRef(key_id=key_id)) == key
        principal = await client.verify(issued.secret)
        assert isinstance(principal, Principal)
        assert (principal.scopes, principal.allowed_cidrs) == (key.scopes, key.allowed_cidrs)
        assert principal.expires_at_ms == key.expires_at_ms


@pytest.mark.usefixtures("service")
async def test_a_key_is_issued_with_its_networks_in_one_form(client: Client) -> None:
    tenant = await client.new_tenant()
    given = ("192.0.2.0/24", "192.0.2.0/24", "198.51.100.7", "2001:DB8:0::/32")
    request = keys.Issue(tenant_id=tenant.tenant_id, name="x", scopes=(Scope.SPEECH,), allowed_cidrs=given)
    issued = await client.call(keys.ISSUE, request)
    assert isinstance(issued, Issued)
    assert issued.key.allowed_cidrs == ("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32")


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("cidr", ["192.0.2.1/24", "300.0.0.1", "10.0.0.0/33", "::ffff:192.0.2.0/120", "::/129", "...."])
async def test_what_is_no_network_is_refused(client: Client, cidr: str) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    request = keys.Issue(
        tenant_id=issued.key.tenant_id, name="x", scopes=(Scope.SPEECH,), allowed_cidrs=("192.0.2.0/24", cidr)
    )
    assert_refused(await client.call(keys.ISSUE, request), ErrorCode.INVALID_VALUE, "allowed_cidrs")
    update = keys.KeyUpdate(key_id=issued.key.key_id, allowed_cidrs=(cidr,))
    assert_refused(await client.call(keys.UPDATE, update), ErrorCode.INVALID_VALUE, "allowed_cidrs")


@pytest.mark.usefixtures("service")
async def test_a_dead_key_stays_as_it_was_and_none_ends_in_the_past(client: Client) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    key_id = issued.key.key_id
    past = keys.KeyUpdate(key_id=key_id, name="late", expires_at_ms=1_000)
    assert_refused(await client.call(keys.UPDATE, past), ErrorCode.INVALID_VALUE, "expires_at_ms")
    assert await client.call(keys.GET, keys.KeyRef(key_id=key_id)) == issued.key, "all of it was refused"
    revoked = await client.call(keys.REVOKE, keys.KeyRef(key_id=key_id))
    update = keys.KeyUpdate(key_id=key_id, name="again", expires_at_ms=None)
    assert_refused(await client.call(keys.UPDATE, update), ErrorCode.CONFLICT, "key_id")
    assert await client.call(keys.GET, keys.KeyRef(key_id=key_id)) == revoked


@pytest.mark.usefixtures("service")
async def test_limits_of_its_own_need_an_account_of_its_own(client: Client) -> None:
    tenant = await client.new_tenant()
    request = keys.Issue(tenant_id=tenant.tenant_id, name="x", scopes=(Scope.SPEECH,), overrides=Overrides(units=1_000))
    assert_refused(await client.call(keys.ISSUE, request), ErrorCode.INVALID_VALUE, "overrides")


@pytest.mark.usefixtures("service")
async def test_every_cache_hears_of_an_update_at_once(client: Client) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    heard: list[KeyEvent] = []

    async def hear(message: Any) -> None:
        heard.append(msgspec.json.decode(message.data, type=KeyEvent))

    subscription = await client.bus.client.subscribe(KEYS_CHANGED, cb=hear)
    await client.bus.round_trip()
    await client.call(keys.UPDATE, keys.KeyUpdate(key_id=issued.key.key_id, allowed_cidrs=OFFICE))
    await until(lambda: len(heard) == 1)
    assert heard[0].key_id == issued.key.key_id
    await subscription.unsubscribe()


@pytest.mark.usefixtures("service")
async def test_a_tenant_s_name_is_changed_unless_it_is_another_s(client: Client) -> None:
    hall, studio = await client.new_tenant("Hall"), await client.new_tenant("Studio")
    renamed = await client.call(
        tenants.TENANT_UPDATE, tenants.TenantUpdate(tenant_id=hall.tenant_id, name="Great Hall")
    )
    assert renamed == msgspec.structs.replace(hall, name="Great Hall")
    taken = tenants.TenantUpdate(tenant_id=hall.tenant_id, name=studio.name)
    assert_refused(await client.call(tenants.TENANT_UPDATE, taken), ErrorCode.CONFLICT, "name")
    assert await client.call(tenants.TENANT_GET, tenants.TenantRef(tenant_id=hall.tenant_id)) == renamed
    again = await client.new_tenant("Hall")
    assert again.tenant_id != hall.tenant_id, "the old name is free"


async def test_one_name_for_two_tenants_at_once_goes_to_one(client: Client, settings: KeysSettings) -> None:
    """Two replicas, eight tenants; the unique constraint decides."""
    async with running(settings), running(settings):
        halls = [await client.new_tenant(f"Hall {number}") for number in range(8)]
        replies = await asyncio.gather(
            *(
                client.call(tenants.TENANT_UPDATE, tenants.TenantUpdate(tenant_id=hall.tenant_id, name="The Hall"))
                for hall in halls
            )
        )
    assert [type(reply) for reply in replies].count(Tenant) == 1
    assert {reply.code for reply in replies if isinstance(reply, Failure)} == {ErrorCode.CONFLICT}


@pytest.mark.usefixtures("service")
async def test_a_revocation_and_updates_at_once_leave_a_revoked_key(client: Client) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    key_id = issued.key.key_id
    await asyncio.gather(
        client.call(keys.REVOKE, keys.KeyRef(key_id=key_id)),
        *(client.call(keys.UPDATE, keys.KeyUpdate(key_id=key_id, expires_at_ms=None)) for _ in range(8)),
    )
    key = await client.call(keys.GET, keys.KeyRef(key_id=key_id))
    assert isinstance(key, Key)
    assert key.revoked_at_ms is not None
