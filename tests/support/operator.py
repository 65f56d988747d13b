"""What an operator does to a stack, over the bus and in its databases."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil

from odea_contracts import keys, plans, quota, tenants
from odea_contracts.subjects import OPERATOR
from odea_local.credentials import load_or_create
from odea_local.embedded import EmbeddedStack
from odea_local.status import State
from odea_runtime.bus import Bus
from odea_runtime.ids import new_id
from odea_runtime.settings import Settings, load


class Operator:
    """Makes tenants and keys, reads balances and records."""

    def __init__(self, bus: Bus, stack: EmbeddedStack) -> None:
        self.bus = bus
        self._stack = stack

    async def new_tenant(self, plan: plans.PlanSet) -> tuple[tenants.Tenant, str]:
        """A tenant under `plan`, and the text of a key for speech and usage."""
        assert isinstance(await self.bus.call(plans.PLAN_SET, plan), plans.Plan)
        tenant = await self.bus.call(tenants.TENANT_CREATE, tenants.TenantCreate(name=new_id("e2e"), plan=plan.name))
        assert isinstance(tenant, tenants.Tenant), tenant
        account = plans.AccountSet(account_id=tenant.tenant_id, tenant_id=tenant.tenant_id, plan=plan.name)
        assert isinstance(await self.bus.call(plans.ACCOUNT_SET, account), plans.Account)
        return tenant, (await self.new_key(tenant.tenant_id)).secret

    async def new_key(self, tenant_id: str) -> keys.Issued:
        """A key for speech and usage."""
        scopes = (keys.Scope.SPEECH, keys.Scope.USAGE_READ)
        issued = await self.bus.call(keys.ISSUE, keys.Issue(tenant_id=tenant_id, name="e2e", scopes=scopes))
        assert isinstance(issued, keys.Issued), issued
        return issued

    async def balance(self, account_id: str) -> quota.Balance:
        """Where an account stands."""
        account = await self.bus.call(plans.ACCOUNT_GET, plans.AccountRef(account_id=account_id))
        assert isinstance(account, plans.Account), account
        return account.balance

    async def settled(self, tenant_id: str) -> dict[str, int]:
        """What each request of a tenant is charged, by request id; a request charged twice fails the test.

        What was taken back does not count.
        """
        connection = await asyncpg.connect(self.database_url("quota"))
        try:
            rows = await connection.fetch(
                "SELECT request_id, units_settled FROM quota.resolutions"
                " WHERE tenant_id = $1 AND kind = 'settled' AND units_settled > 0"
                " AND hold_id NOT IN (SELECT hold_id FROM quota.reversals)",
                tenant_id,
            )
        finally:
            await connection.close()
        charges = {row["request_id"]: row["units_settled"] for row in rows}
        assert len(charges) == len(rows), "a request was charged twice"
        return charges

    async def taken_back(self, tenant_id: str) -> set[str]:
        """The requests of a tenant whose charge was taken back, by request id."""
        connection = await asyncpg.connect(self.database_url("quota"))
        try:
            rows = await connection.fetch("SELECT request_id FROM quota.reversals WHERE tenant_id = $1", tenant_id)
        finally:
            await connection.close()
        return {row["request_id"] for row in rows}

    def database_url(self, service: str) -> str:
        """The DSN that a service uses."""
        pid = self._stack.service(service).pid
        assert pid is not None
        return psutil.Process(pid).environ()["ODEA_DATABASE_URL"]

    def logs(self) -> str:
        """Everything that the stack wrote to its logs."""
        folder = Path(self._stack.folder.logs)
        return "".join(path.read_text(errors="replace") for path in folder.iterdir() if path.is_file())

    def signal(self, service: str, number: int) -> None:
        """Send a signal to a part of the stack, to all of its processes: a database has many."""
        pid = self._stack.service(service).pid
        assert pid is not None
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            os.kill(each.pid, number)

    def whole(self) -> bool:
        """Whether every part of the stack is ready."""
        return all(service.state is State.READY for service in self._stack.status().services)


@asynccontextmanager
async def operating(stack: EmbeddedStack) -> AsyncGenerator[Operator]:
    """An operator of `stack`, with the operator's own login of the bus."""
    login = {
        "ODEA_NATS_URL": f"nats://{stack.service('nats').address}",
        "ODEA_NATS_SEED": load_or_create(stack.folder.credentials).nats_operator,
    }
    bus = Bus(load(Settings, {**login, "ODEA_CALL_TIMEOUT_S": "10"}), OPERATOR)
    await bus.start()
    try:
        yield Operator(bus, stack)
    finally:
        await bus.stop()
