"""A predecessor's users become tenants, each with a new key in one CSV. Run twice, it does nothing twice.

A tenant is known by its name, a plan by its own, and what a tenant used by an id that is made from the tenant's. Keys
are issued under a name of the change, so that a key whose line was not written before an interruption is shown again,
for a day.
"""

import time
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import UUID, uuid5

from rich.console import Console
from rich.progress import track

from odea_local.admin.client import AdminClient, RefusedError, Table
from odea_local.admin.keyfile import appending, write_line, written
from odea_local.admin.predecessor import Found, Plan, Skipped, User, month_of

COLUMNS: Final = ("tenant_id", "tenant_name", "key_id", "api_key")
KEY_NAME: Final = "imported"
DEFAULT_PLAN: Final = "default"
_CARRYOVERS: Final = UUID("5d2f6a1e-43c8-5b7a-9d10-7e6c2b9a4f58")
"""The namespace of what tenants used before, one for each."""
REPEATED_FOR_MS: Final = 23 * 3_600_000
"""A little less than keys remembers the name of a change."""


def rehearse(api: AdminClient, found: Found) -> Table:
    """What an import would do, and what it would skip. Nothing is changed."""
    names = {tenant["name"] for tenant in api.every("/v1/admin/tenants")}
    plans = {plan["name"] for plan in api.every("/v1/admin/plans")}
    skipped = [*found.skipped, *_without_plan(found, plans)]
    return {
        "plans_new": len(set(found.plans) - plans),
        "plans_there": len(set(found.plans) & plans),
        "tenants_new": len({user.name for user in found.users} - names),
        "tenants_there": len({user.name for user in found.users} & names),
        "users_with_usage": sum(user.used > 0 for user in found.users),
        "units_used": sum(user.used for user in found.users),
        "skipped": [_line(each) for each in skipped],
    }


def take_over(api: AdminClient, found: Found, path: Path) -> Table:
    """Make what is not there, write the new keys into the CSV at `path`; what was done and what was skipped.

    Raises:
        LocalError: the API did not answer or refused; the same command goes on where it stopped.
    """
    plans = {plan["name"] for plan in api.every("/v1/admin/plans")}
    new_plans = [plan for plan in found.plans.values() if plan.name not in plans]
    for plan in new_plans:
        _make_plan(api, plan)
    plans |= set(found.plans)
    skipped = [*found.skipped, *_without_plan(found, plans)]
    done = written(path, "tenant_id")
    before, carried = len(done), 0
    with appending(path) as file:
        if not done:
            write_line(file, COLUMNS)
        for user in track(found.users, "tenants", console=Console(stderr=True)):
            if (user.plan or DEFAULT_PLAN) not in plans:
                continue
            tenant = _make_tenant(api, user)
            if user.used:
                why = carry_over(api, tenant["tenant_id"], user.used, found.month)
                carried += why is None
                if why:
                    skipped.append(Skipped(where=f"usage of tenant {tenant['tenant_id']}", why=why))
            if tenant["tenant_id"] in done:
                continue
            issued = _issue(api, tenant)
            if issued is None:
                why = "it has a key of an import before, which is not in this file; regenerate it"
                skipped.append(Skipped(where=f"tenant {tenant['tenant_id']}", why=why))
                continue
            write_line(file, (tenant["tenant_id"], tenant["name"], issued["key"]["key_id"], issued["secret"]))
            done.add(tenant["tenant_id"])
    return {
        "plans_made": len(new_plans),
        "keys_issued": len(done) - before,
        "done_before": before,
        "usage_carried_over": carried,
        "skipped": [_line(each) for each in skipped],
        "csv": str(path),
    }


def _make_plan(api: AdminClient, plan: Plan) -> None:
    api.change("PUT", f"/v1/admin/plans/{quote(plan.name, safe='')}", dict(plan.limits))


def _make_tenant(api: AdminClient, user: User) -> Table:
    """The tenant of the user's name. One that is there stays as it is, but an inactive user's is suspended."""
    tenant = api.change("POST", "/v1/admin/tenants", {"name": user.name, "plan": user.plan or DEFAULT_PLAN})
    if not user.active and not tenant["suspended"]:
        return api.change("POST", f"/v1/admin/tenants/{tenant['tenant_id']}/suspend")
    return tenant


def _issue(api: AdminClient, tenant: Table) -> Table | None:
    """The tenant's new key; `None` if it got one so long ago that it is not shown again."""
    where = f"/v1/admin/tenants/{tenant['tenant_id']}/keys"
    living = [key for key in api.every(where) if key["name"] == KEY_NAME and key["revoked_at_ms"] is None]
    if any(key["created_at_ms"] < time.time() * 1000 - REPEATED_FOR_MS for key in living):
        return None
    body = {"name": KEY_NAME, "scopes": ["speech", "usage:read"]}
    try:
        return api.change("POST", where, body, name=f"import/{tenant['tenant_id']}")
    except RefusedError as error:
        if error.code == "conflict" and error.param == "idempotency_key":
            return None
        raise


def carry_over(api: AdminClient, tenant_id: str, units: int, month: str) -> str | None:
    """Charge the tenant's account with what was used in `month`, once for ever; why not, if it is refused."""
    where = f"/v1/admin/accounts/{tenant_id}"
    balance = api.patiently(where)["balance"]
    if balance["window"] != "month":
        return "its plan's window is no month"
    if month_of(balance["window_ends_at_ms"] / 1000 - 1) != month:
        return "the month in which it was used is over"
    body = {"carryover_id": str(uuid5(_CARRYOVERS, tenant_id)), "units": units}
    try:
        api.change("POST", f"{where}/carryovers", body)
    except RefusedError as error:
        if error.param == "units":
            return f"{units} units are more than its limit leaves; raise it and run this again"
        if error.code == "conflict" and error.param == "carryover_id":
            return "other units were carried over before"
        raise
    return None


def _without_plan(found: Found, plans: set[str]) -> list[Skipped]:
    known = plans | set(found.plans)
    why = "its plan is neither in the file nor here"
    return [
        Skipped(where=f"user {number} that can be used", why=why)
        for number, user in enumerate(found.users, 1)
        if (user.plan or DEFAULT_PLAN) not in known
    ]


def _line(skipped: Skipped) -> str:
    return f"{skipped.where}: {skipped.why}"
