"""The admin API on the real services: what operators do over HTTP, and what nobody else can."""

import time
from typing import Any

import httpx
import pytest

from e2e.console import ADMIN, DAY_MS, client_with, done, everything, new_tenant, opened, refused
from odea_contracts import tenants
from odea_local.embedded import EmbeddedStack
from odea_runtime.ids import new_id


async def test_an_account_is_topped_up_once_moved_and_suspended(admin: httpx.AsyncClient) -> None:
    owner = await new_tenant(admin)
    account_id = owner["tenant_id"]
    await opened(admin, account_id)
    where = f"{ADMIN}/accounts/{account_id}"
    before = await done(await admin.get(where))
    topup = {"units": 777, "expires_at_ms": int(time.time() * 1000) + DAY_MS}
    again = {"Idempotency-Key": new_id("idem")}
    for _ in range(2):
        after = await done(await admin.post(f"{where}/topups", json=topup, headers=again))
        assert after["balance"]["topup_remaining"] == 777
    other = await admin.post(f"{where}/topups", json={**topup, "units": 5}, headers=again)
    assert refused(other)[:2] == (409, "conflict")
    assert (await done(await admin.post(f"{where}/topups", json=topup)))["balance"]["topup_remaining"] == 1554
    changed = await done(await admin.patch(where, json={"overrides": {"units": 12, "in_flight_max": None}}))
    assert (changed["plan"], changed["balance"]["limit"]) == (before["plan"], 12)
    assert changed["overrides"] == {"units": 12, "in_flight_max": None}
    plan = new_id("plan")
    await done(await admin.put(f"{ADMIN}/plans/{plan}", json={"units": 5000, "requests_per_minute": 9}))
    moved = await done(await admin.patch(where, json={"plan": plan, "overrides": {}}))
    assert (moved["plan"], moved["balance"]["limit"], moved["overrides"]) == (plan, 5000, {})
    assert (await done(await admin.post(f"{where}/suspend")))["suspended"] is True
    assert (await done(await admin.post(f"{where}/resume")))["suspended"] is False
    assert refused(await admin.patch(where, json={"plan": "no such plan"})) == (404, "not_found", "plan")


async def test_plans_are_set_read_and_paged(admin: httpx.AsyncClient) -> None:
    name = new_id("plan")
    body: dict[str, Any] = {"units": 100, "window": "day", "requests_per_minute": 5, "models": ["tts-1"]}
    plan = await done(await admin.put(f"{ADMIN}/plans/{name}", json=body))
    assert plan == await done(await admin.get(f"{ADMIN}/plans/{name}"))
    assert {field: plan[field] for field in body} == body
    assert name in [plan["name"] for plan in await everything(admin, f"{ADMIN}/plans", limit=1)]
    assert refused(await admin.get(f"{ADMIN}/plans", params={"cursor": "nowhere"})) == (400, "invalid_value", "cursor")


async def test_lists_are_paged_without_gaps_or_repeats(admin: httpx.AsyncClient) -> None:
    made = [await new_tenant(admin) for _ in range(5)]
    found = [tenant["tenant_id"] for tenant in await everything(admin, f"{ADMIN}/tenants", limit=2)]
    assert len(found) == len(set(found))
    assert [each["tenant_id"] for each in made] == found[-5:]


async def test_usage_is_told_by_day_and_key(
    admin: httpx.AsyncClient, stack: EmbeddedStack, tenant: tuple[tenants.Tenant, str]
) -> None:
    owner, key = tenant
    async with client_with(stack, key) as caller:
        body = {"model": "tts-1", "voice": "alloy", "input": "Ten chars."}
        assert (await caller.post("/v1/audio/speech", json=body)).status_code == 200
        key_id = (await caller.get("/v1/me")).json()["key_id"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    asked = {"tenant_id": owner.tenant_id, "from": today, "to": today}
    usage = await done(await admin.get(f"{ADMIN}/usage", params=asked))
    assert usage["balances"][0]["used"] == 10
    assert usage["points"] == [{"day": today, "key_id": key_id, "units": 10, "requests": 1}]
    assert (await done(await admin.get(f"{ADMIN}/usage", params={"tenant_id": owner.tenant_id})))["points"] == []


WRONG: dict[str, tuple[str, str, Any, tuple[int, str, str | None]]] = {
    "unknown field": ("POST", "/tenants", {"name": "x", "plam": "y"}, (400, "invalid_value", "plam")),
    "no name": ("POST", "/tenants", {}, (400, "missing_required_parameter", "name")),
    "a name with a line break": ("POST", "/tenants", {"name": "a\nb"}, (400, "invalid_value", "name")),
    "no scopes": ("POST", "/tenants/{id}/keys", {"name": "x", "scopes": []}, (400, "invalid_value", "scopes")),
    "unknown scope": (
        "POST",
        "/tenants/{id}/keys",
        {"name": "x", "scopes": ["root"]},
        (400, "invalid_value", "scopes[0]"),
    ),
    "unknown limit": (
        "PATCH",
        "/accounts/{id}",
        {"overrides": {"unit": 1}},
        (400, "invalid_value", "overrides.unit"),
    ),
    "negative units": ("PUT", "/plans/bad", {"units": -1}, (400, "invalid_value", "units")),
    "units beyond all bounds": ("PUT", "/plans/bad", {"units": 10**30}, (400, "invalid_value", "units")),
    "no top-up": ("POST", "/accounts/{id}/topups", {"units": 0, "expires_at_ms": 1}, (400, "invalid_value", "units")),
    "a tenant under no plan": ("POST", "/tenants", {"name": "x", "plan": "none such"}, (404, "not_found", "plan")),
    "a key under no plan": (
        "POST",
        "/tenants/{id}/keys",
        {"name": "x", "scopes": ["speech"], "own_account": True, "plan": "none such"},
        (404, "not_found", "plan"),
    ),
    "no tenant": ("GET", "/tenants/ten_nobody", None, (404, "not_found", "tenant_id")),
    "an id that is none": ("GET", "/tenants/ten';--", None, (404, "not_found", "tenant_id")),
    "no key": ("GET", "/keys/key_nobody", None, (404, "not_found", "key_id")),
    "no account": ("POST", "/accounts/ten_nobody/suspend", None, (404, "not_found", "account_id")),
    "no plan": ("GET", "/plans/none such", None, (404, "not_found", "name")),
    "no usage": ("GET", "/usage?tenant_id=ten_nobody", None, (404, "not_found", "tenant_id")),
    "usage of nobody": ("GET", "/usage", None, (400, "missing_required_parameter", "tenant_id")),
    "usage from no day": (
        "GET",
        "/usage?tenant_id={id}&from=2026-02-30&to=2026-03-01",
        None,
        (400, "invalid_value", "from"),
    ),
    "usage without an end": (
        "GET",
        "/usage?tenant_id={id}&from=2026-02-01",
        None,
        (400, "missing_required_parameter", "to"),
    ),
    "usage backwards": (
        "GET",
        "/usage?tenant_id={id}&from=2026-02-02&to=2026-02-01",
        None,
        (400, "invalid_value", "to"),
    ),
    "a page of nothing": ("GET", "/tenants?limit=0", None, (400, "invalid_value", "limit")),
    "a page too large": ("GET", "/tenants?limit=201", None, (400, "invalid_value", "limit")),
    "a cursor that is none": ("GET", "/tenants?cursor=%27%20OR%201", None, (400, "invalid_value", "cursor")),
    "a cursor of our alphabet": ("GET", "/tenants?cursor=AAAA", None, (400, "invalid_value", "cursor")),
    "a cursor of no audit": ("GET", "/audit?cursor=AAAA", None, (400, "invalid_value", "cursor")),
    "a cursor of an audit that goes nowhere": (
        "GET",
        "/audit?cursor=W251bGwsbnVsbF0",
        None,
        (400, "invalid_value", "cursor"),
    ),
    "a filter that is no id": ("GET", "/audit?tenant_id=a%00b", None, (400, "invalid_value", "tenant_id")),
}


@pytest.mark.parametrize(("method", "path", "body", "told"), WRONG.values(), ids=WRONG)
async def test_what_does_not_fit_is_named(
    admin: httpx.AsyncClient,
    tenant: tuple[tenants.Tenant, str],
    method: str,
    path: str,
    body: Any,
    told: tuple[int, str, str | None],
) -> None:
    answer = await admin.request(method, ADMIN + path.format(id=tenant[0].tenant_id), json=body)
    assert refused(answer) == told


async def test_nothing_is_made_under_a_plan_that_is_not_there(admin: httpx.AsyncClient) -> None:
    """It would be a tenant or a key whose account never opens."""
    owner, name = await new_tenant(admin), new_id("planless")
    issuing = f"{ADMIN}/tenants/{owner['tenant_id']}/keys"
    await admin.post(f"{ADMIN}/tenants", json={"name": name, "plan": "none such"})
    key = {"name": "x", "scopes": ["speech"], "own_account": True, "plan": "none such"}
    await admin.post(issuing, json=key)
    assert name not in [tenant["name"] for tenant in await everything(admin, f"{ADMIN}/tenants", limit=200)]
    assert await everything(admin, issuing, limit=200) == []
    assert (await admin.post(issuing, json={**key, "plan": "default"})).status_code == 200
