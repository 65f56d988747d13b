"""Tenants and keys over HTTP, on the real services: their lives, and that each change is made once and recorded."""

import time

import httpx

from e2e.console import ADMIN, DAY_MS, client_with, done, everything, new_tenant, opened, refused
from odea_local.embedded import EmbeddedStack
from odea_runtime.ids import new_id
from support.waiting import until


async def test_a_tenant_is_made_renamed_suspended_and_resumed(stack: EmbeddedStack, admin: httpx.AsyncClient) -> None:
    made = await new_tenant(admin)
    where = f"{ADMIN}/tenants/{made['tenant_id']}"
    assert await done(await admin.get(where)) == made
    renamed = await done(await admin.patch(where, json={"name": f"{made['name']} again"}))
    assert renamed == {**made, "name": f"{made['name']} again"}
    issued = await done(await admin.post(f"{where}/keys", json={"name": "one", "scopes": ["speech"]}))
    async with client_with(stack, issued["secret"]) as caller:
        assert (await caller.get("/v1/me")).json()["tenant_id"] == made["tenant_id"]
        assert (await done(await admin.post(f"{where}/suspend")))["suspended"] is True
        await until(lambda: refused_by(caller), within_s=1.0)
        assert (await done(await admin.post(f"{where}/resume")))["suspended"] is False
        await until(lambda: accepted_by(caller), within_s=1.0)


async def refused_by(caller: httpx.AsyncClient) -> bool:
    return (await caller.get("/v1/me")).status_code == 401


async def accepted_by(caller: httpx.AsyncClient) -> bool:
    return (await caller.get("/v1/me")).status_code == 200


async def test_a_key_lives_and_dies(stack: EmbeddedStack, admin: httpx.AsyncClient) -> None:
    owner = await new_tenant(admin)
    body = {"name": "site", "scopes": ["speech", "usage:read"], "expires_at_ms": int(time.time() * 1000) + DAY_MS}
    issued = await done(await admin.post(f"{ADMIN}/tenants/{owner['tenant_id']}/keys", json=body))
    where = f"{ADMIN}/keys/{issued['key']['key_id']}"
    assert await done(await admin.get(where)) == issued["key"]
    assert issued["secret"] not in (await admin.get(where)).text
    changed = await done(await admin.patch(where, json={"name": "shop", "scopes": ["speech"], "expires_at_ms": None}))
    assert (changed["name"], changed["scopes"], changed["expires_at_ms"]) == ("shop", ["speech"], None)
    rotated = await done(await admin.post(f"{where}/rotate", json={"grace_ms": 60_000}))
    async with client_with(stack, issued["secret"]) as old, client_with(stack, rotated["secret"]) as new:
        assert await accepted_by(old)
        assert await accepted_by(new)
        assert (await done(await admin.post(f"{where}/revoke")))["revoked_at_ms"]
        await until(lambda: refused_by(old), within_s=1.0)
        await until(lambda: refused_by(new), within_s=1.0)
    listed = await done(await admin.get(f"{ADMIN}/tenants/{owner['tenant_id']}/keys"))
    assert [key["key_id"] for key in listed["data"]] == [issued["key"]["key_id"]]


async def test_a_key_works_only_from_its_networks(stack: EmbeddedStack, admin: httpx.AsyncClient) -> None:
    owner = await new_tenant(admin)
    body = {"name": "office", "scopes": ["speech"], "allowed_cidrs": ["192.0.2.0/24"]}
    issued = await done(await admin.post(f"{ADMIN}/tenants/{owner['tenant_id']}/keys", json=body))
    async with client_with(stack, issued["secret"]) as caller:
        # As any bad key: whoever stole it learns nothing.
        assert refused(await caller.get("/v1/me")) == (401, "invalid_api_key", None)
        there = {"allowed_cidrs": ["127.0.0.0/8", "::1"]}
        await done(await admin.patch(f"{ADMIN}/keys/{issued['key']['key_id']}", json=there))
        await until(lambda: accepted_by(caller), within_s=1.0)


async def test_a_change_asked_twice_is_made_once(admin: httpx.AsyncClient) -> None:
    again = {"Idempotency-Key": new_id("idem")}
    name = new_id("once")
    made = await done(await admin.post(f"{ADMIN}/tenants", json={"name": name}, headers=again))
    assert await done(await admin.post(f"{ADMIN}/tenants", json={"name": name}, headers=again)) == made
    other = await admin.post(f"{ADMIN}/tenants", json={"name": f"{name} else"}, headers=again)
    assert refused(other)[:2] == (409, "conflict")
    issuing = f"{ADMIN}/tenants/{made['tenant_id']}/keys"
    body = {"name": "one", "scopes": ["speech"]}
    issued = await done(await admin.post(issuing, json=body, headers=again))
    assert await done(await admin.post(issuing, json=body, headers=again)) == issued
    assert refused(await admin.post(issuing, json={**body, "name": "two"}, headers=again))[:2] == (409, "conflict")
    assert len((await done(await admin.get(issuing)))["data"]) == 1


async def test_the_audit_says_who_changed_what_from_where(admin: httpx.AsyncClient) -> None:
    me = (await admin.get("/v1/me")).json()["key_id"]
    made = await new_tenant(admin)
    where = f"{ADMIN}/tenants/{made['tenant_id']}"
    answer = await admin.post(f"{where}/suspend", headers={"x-request-id": "audit.me"})
    assert answer.status_code == 200
    entries = await everything(admin, f"{ADMIN}/audit", limit=1, tenant_id=made["tenant_id"])
    assert [entry["action"] for entry in entries] == ["suspended", "tenant_created"]
    assert {(entry["actor"], entry["origin"]) for entry in entries} == {(me, "127.0.0.1")}
    assert entries[0]["request_id"] == "audit.me"


async def test_plans_and_accounts_are_in_the_same_audit_in_the_order_of_time(admin: httpx.AsyncClient) -> None:
    me = (await admin.get("/v1/me")).json()["key_id"]
    made = await new_tenant(admin)
    account, tenant = f"{ADMIN}/accounts/{made['tenant_id']}", f"{ADMIN}/tenants/{made['tenant_id']}"
    await opened(admin, made["tenant_id"])
    plan = new_id("plan")
    await done(await admin.put(f"{ADMIN}/plans/{plan}", json={"units": 9}, headers={"x-request-id": "plan.me"}))
    newest = (await done(await admin.get(f"{ADMIN}/audit", params={"limit": "1"})))["data"][0]
    assert (newest["action"], newest["tenant_id"], newest["request_id"]) == ("plan_set", None, "plan.me")
    assert (newest["detail"]["plan"], newest["detail"]["limits"]["units"]) == (plan, 9)
    await done(await admin.patch(account, json={"plan": plan}))
    await done(await admin.patch(tenant, json={"name": new_id("again")}))
    await done(await admin.post(f"{account}/suspend", headers={"x-request-id": "audit.me"}))
    await done(await admin.post(f"{account}/suspend"))
    topup = {"units": 5, "expires_at_ms": int(time.time() * 1000) + DAY_MS}
    await done(await admin.post(f"{account}/topups", json=topup))
    told = ["topped_up", "account_suspended", "tenant_updated", "account_set", "tenant_created"]
    for limit in (1, 2, 50):
        entries = await everything(admin, f"{ADMIN}/audit", limit=limit, tenant_id=made["tenant_id"])
        assert [entry["action"] for entry in entries] == told
        assert {(entry["actor"], entry["origin"]) for entry in entries} == {(me, "127.0.0.1")}
        assert entries[1]["request_id"] == "audit.me"


async def test_a_network_that_is_none_is_refused(admin: httpx.AsyncClient) -> None:
    owner = await new_tenant(admin)
    body = {"name": "x", "scopes": ["speech"], "allowed_cidrs": ["10.0.0.0/99"]}
    answer = await admin.post(f"{ADMIN}/tenants/{owner['tenant_id']}/keys", json=body)
    assert refused(answer) == (400, "invalid_value", "allowed_cidrs")
