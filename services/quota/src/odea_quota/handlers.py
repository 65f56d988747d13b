"""Endpoints of the quota service: message in, one call, message out."""

from functools import partial
from typing import cast

from faststream.nats import NatsRouter

from odea_contracts import audit, plans, quota, writeoffs
from odea_contracts.errors import ErrorCode
from odea_contracts.keys import KeyEvent
from odea_contracts.tenants import TenantEvent
from odea_quota.account_store import AccountStore
from odea_quota.batcher import Batcher
from odea_quota.carryovers import CarryOvers
from odea_quota.plan_store import PlanStore
from odea_quota.reader import Reader
from odea_runtime.audit import AuditLog
from odea_runtime.serving import serve
from odea_runtime.tasks import Tasks


class Handlers:
    """Answers for holds go through the batcher; plans and accounts are read and written one by one."""

    def __init__(
        self,
        batcher: Batcher,
        *,
        plans: PlanStore,
        accounts: AccountStore,
        carryovers: CarryOvers,
        reader: Reader,
        audit: AuditLog,
    ) -> None:
        self._batcher = batcher
        self._plans = plans
        self._accounts = accounts
        self._carryovers = carryovers
        self._reader = reader
        self._audit = audit

    def register(self, router: NatsRouter, tasks: Tasks) -> None:
        """Serve every endpoint of the service."""
        answer = partial(serve, router, tasks, unavailable=ErrorCode.QUOTA_UNAVAILABLE)
        answer(quota.RESERVE, self.reserve)
        answer(quota.SETTLE, self.settle)
        answer(quota.RELEASE, self.release)
        answer(quota.EXTEND, self.extend)
        answer(writeoffs.WRITE_OFF, self.write_off)
        answer(quota.USAGE, self.usage)
        answer(plans.PLAN_SET, self.set_plan)
        answer(plans.PLAN_GET, self.get_plan)
        answer(plans.PLAN_LIST, self.list_plans)
        answer(plans.ACCOUNT_SET, self.set_account)
        answer(plans.ACCOUNT_GET, self.get_account)
        answer(plans.ACCOUNT_SUSPEND, self.suspend_account)
        answer(plans.ACCOUNT_RESUME, self.resume_account)
        answer(plans.TOP_UP, self.top_up)
        answer(plans.CARRY_OVER, self.carry_over)
        answer(quota.USAGE_SERIES, self.usage_series)
        answer(audit.QUOTA_AUDIT_LIST, self.audit_list)

    async def reserve(self, message: quota.Reserve) -> quota.ReserveReply:
        """Hold units, or say which limit refuses."""
        return cast("quota.ReserveReply", await self._batcher.submit(message))

    async def settle(self, message: quota.Settle) -> quota.SettleReply:
        """Charge a hold."""
        return cast("quota.SettleReply", await self._batcher.submit(message))

    async def release(self, message: quota.Release) -> quota.ReleaseReply:
        """Give a hold back."""
        return cast("quota.ReleaseReply", await self._batcher.submit(message))

    async def extend(self, message: quota.Extend) -> quota.ExtendReply:
        """Let a lease last longer."""
        return cast("quota.ExtendReply", await self._batcher.submit(message))

    async def write_off(self, message: writeoffs.WriteOff) -> writeoffs.WriteOffReply:
        """Charge nothing for a hold, though it were settled."""
        return cast("writeoffs.WriteOffReply", await self._batcher.submit(message))

    async def usage(self, message: quota.Usage) -> quota.UsageReply:
        """Where accounts stand."""
        return quota.UsageReport(balances=await self._reader.balances(message.accounts))

    async def set_plan(self, message: plans.PlanSet) -> plans.PlanReply:
        """Create or change a plan."""
        return await self._plans.set_plan(message)

    async def get_plan(self, message: plans.PlanRef) -> plans.PlanReply:
        """Read a plan."""
        return await self._plans.get_plan(message.name)

    async def list_plans(self, message: plans.PlanList) -> plans.PlansReply:  # noqa: ARG002 - the message is empty
        """Read all plans."""
        return plans.Plans(plans=await self._plans.list_plans())

    async def set_account(self, message: plans.AccountSet) -> plans.AccountReply:
        """Open an account, or change what is named of it."""
        return await self._accounts.set_account(message)

    async def get_account(self, message: plans.AccountRef) -> plans.AccountReply:
        """Read an account."""
        return await self._reader.account(message.account_id)

    async def suspend_account(self, message: plans.AccountRef) -> plans.AccountReply:
        """Let an account hold nothing more."""
        return await self._accounts.suspend_account(message)

    async def resume_account(self, message: plans.AccountRef) -> plans.AccountReply:
        """Let a suspended account hold again."""
        return await self._accounts.resume_account(message)

    async def top_up(self, message: plans.TopUp) -> plans.AccountReply:
        """Give an account extra units."""
        return await self._accounts.top_up(message)

    async def carry_over(self, message: plans.CarryOver) -> plans.AccountReply:
        """Charge an account with what was used before it was here."""
        return await self._carryovers.carry_over(message)

    async def usage_series(self, message: quota.UsageSeries) -> quota.UsageSeriesReply:
        """What a tenant used, by day and key."""
        return await self._reader.usage_series(message)

    async def audit_list(self, message: audit.AuditList) -> audit.AuditPageReply:
        """A page of the changes of plans and accounts, newest first."""
        return await self._audit.page(message)

    async def open_tenant_account(self, event: TenantEvent) -> None:
        """A tenant was created: open its account. Doing it twice changes nothing."""
        await self._accounts.open_account(event.tenant_id, event.tenant_id, event.plan or "default")

    async def open_key_account(self, event: KeyEvent) -> None:
        """A key was issued: if it has a budget of its own, open its account. Doing it twice changes nothing."""
        if event.plan and isinstance(event.key_id, str):
            await self._accounts.open_account(event.key_id, event.tenant_id, event.plan, event.overrides)
