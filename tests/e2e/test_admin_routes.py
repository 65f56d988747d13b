"""All routes of the admin API, as the application lists them: who is let in, and that a change has one name.

A route that is added is tried here without being named, and a change fails until it says how it is asked.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from e2e.console import ADMIN, DAY_MS, client_with, done, everything, new_tenant, opened, refused
from odea_contracts import tenants
from odea_gateway.routes import HANDLERS
from odea_local.embedded import EmbeddedStack
from odea_runtime.ids import new_id, new_uuid


@dataclass(frozen=True)
class Route:
    """A method and a path of the admin API."""

    method: str
    path: str
    operation: str

    def at(self, places: dict[str, str]) -> str:
        return self.path.format_map(places)


def admin_routes() -> list[Route]:
    app = Litestar(route_handlers=HANDLERS, openapi_config=None)
    return [
        Route(method, route.path_format, handler.operation_id)
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith(ADMIN)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS" and isinstance(handler.operation_id, str)
    ]


ROUTES: Final = admin_routes()
CHANGING: Final = [route for route in ROUTES if route.method != "GET"]
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
each_change = pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.operation)
SOON: Final = int(time.time() * 1000) + DAY_MS

USED: Final = new_uuid()

BODIES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]] | None]] = {
    "create_tenant": ({"name": new_id("a")}, {"name": new_id("b")}),
    "update_tenant": ({"name": new_id("a")}, {"name": new_id("b")}),
    "suspend_tenant": None,
    "resume_tenant": None,
    "issue_key": ({"name": "a", "scopes": ["speech"]}, {"name": "b", "scopes": ["speech"]}),
    "update_key": ({"name": "a"}, {"name": "b"}),
    "rotate_key": ({"grace_ms": 60_000}, {"grace_ms": 0}),
    "revoke_key": None,
    "set_plan": ({"units": 70}, {"units": 80}),
    "update_account": ({"overrides": {"units": 70}}, {"overrides": {"units": 80}}),
    "suspend_account": None,
    "resume_account": None,
    "top_up_account": ({"units": 7, "expires_at_ms": SOON}, {"units": 8, "expires_at_ms": SOON}),
    "carry_usage_over": ({"carryover_id": USED, "units": 7}, {"carryover_id": USED, "units": 8}),
}
"""By operation: a body and another one; none where the path says all."""


def test_the_table_of_routes_is_what_it_seems() -> None:
    assert len(ROUTES) > 20
    assert {route.operation for route in CHANGING} == set(BODIES)
    assert "admin_list_requests" in {route.operation for route in ROUTES}


@each_route
async def test_another_key_finds_nothing_here(
    stack: EmbeddedStack, tenant: tuple[tenants.Tenant, str], route: Route
) -> None:
    """Not even of its own tenant, and with the very answer of a path that is not there."""
    owner, key = tenant
    where = route.at(dict.fromkeys(("tenant_id", "key_id", "account_id", "name"), owner.tenant_id))
    asked: dict[str, Any] = {"params": {"tenant_id": owner.tenant_id}, "json": {}}
    async with client_with(stack, key) as caller, httpx.AsyncClient(base_url=stack.url, timeout=20) as stranger:
        assert refused(await caller.request(route.method, where, **asked)) == (404, "not_found", None)
        assert refused(await caller.get(f"{ADMIN}/nothing")) == (404, "not_found", None)
        assert refused(await stranger.request(route.method, where, **asked)) == (401, "missing_api_key", None)


@each_change
async def test_a_change_is_made_once_under_its_name(admin: httpx.AsyncClient, route: Route) -> None:
    """Asked again, it gives the first answer and leaves no trace; asked for something else, it is refused."""
    here, there = await made(admin), await made(admin)
    name = {"Idempotency-Key": new_id("idem")}
    bodies = BODIES[route.operation]
    asked: dict[str, Any] = {"headers": name, **({} if bodies is None else {"json": bodies[0]})}
    first = await done(await admin.request(route.method, route.at(here), **asked))
    traces = await everything(admin, f"{ADMIN}/audit", limit=200, tenant_id=here["tenant_id"])
    for _ in range(2):
        assert await done(await admin.request(route.method, route.at(here), **asked)) == first
    assert await everything(admin, f"{ADMIN}/audit", limit=200, tenant_id=here["tenant_id"]) == traces
    if bodies is not None:
        other = await admin.request(route.method, route.at(here), headers=name, json=bodies[1])
        assert refused(other) == (409, "conflict", "idempotency_key")
    if "{" in route.path:
        elsewhere = await admin.request(route.method, route.at(there), **asked)
        assert refused(elsewhere) == (409, "conflict", "idempotency_key")
    fresh: dict[str, Any] = {**asked, "headers": {"Idempotency-Key": new_id("idem")}}
    assert (await admin.request(route.method, route.at(there), **fresh)).status_code in {200, 409}, "another name"


async def made(admin: httpx.AsyncClient) -> dict[str, str]:
    """A tenant with a key, an account and a name for a plan: what the paths name."""
    tenant_id = (await new_tenant(admin))["tenant_id"]
    body = {"name": "one", "scopes": ["speech"]}
    issued = await done(await admin.post(f"{ADMIN}/tenants/{tenant_id}/keys", json=body))
    await opened(admin, tenant_id)
    places = {"tenant_id": tenant_id, "account_id": tenant_id, "key_id": issued["key"]["key_id"]}
    return {**places, "name": new_id("plan")}


async def test_a_repeat_does_not_undo_what_was_changed_since(admin: httpx.AsyncClient) -> None:
    places = await made(admin)
    account, tenant = f"{ADMIN}/accounts/{places['account_id']}", f"{ADMIN}/tenants/{places['tenant_id']}"
    name = {"Idempotency-Key": new_id("idem")}
    first = await done(await admin.patch(account, json={"overrides": {"units": 7}}, headers=name))
    suspended = await done(await admin.post(f"{tenant}/suspend", headers=name))
    await done(await admin.patch(account, json={"overrides": {"units": 9}}))
    await done(await admin.post(f"{tenant}/resume"))
    assert await done(await admin.patch(account, json={"overrides": {"units": 7}}, headers=name)) == first
    assert await done(await admin.post(f"{tenant}/suspend", headers=name)) == suspended
    assert (await done(await admin.get(account)))["overrides"] == {"units": 9}
    assert (await done(await admin.get(tenant)))["suspended"] is False


async def test_a_refused_change_takes_no_name(admin: httpx.AsyncClient) -> None:
    places = await made(admin)
    account = f"{ADMIN}/accounts/{places['account_id']}"
    name = {"Idempotency-Key": new_id("idem")}
    plan = new_id("plan")
    assert refused(await admin.patch(account, json={"plan": plan}, headers=name)) == (404, "not_found", "plan")
    await done(await admin.put(f"{ADMIN}/plans/{plan}", json={"units": 1}))
    assert (await done(await admin.patch(account, json={"plan": plan}, headers=name)))["plan"] == plan


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 256])
async def test_a_name_that_is_none_is_refused(admin: httpx.AsyncClient, name: str) -> None:
    for route in CHANGING:
        where = route.at(dict.fromkeys(("tenant_id", "key_id", "account_id", "name"), "nobody"))
        bodies = BODIES[route.operation]
        answer = await admin.request(
            route.method,
            where,
            headers={b"idempotency-key": name.encode("latin-1")},
            json=None if bodies is None else bodies[0],
        )
        assert answer.status_code == 400, (route, answer.text)
