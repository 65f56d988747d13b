"""Plans in PostgreSQL, and how an account gets a plan's limits."""

from typing import Any

import asyncpg
from msgspec.structs import asdict

from odea_contracts import plans
from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.plans import Plan, PlanReply, PlanSet
from odea_contracts.quota import Window
from odea_quota.accounts import window_ms
from odea_runtime.audit import AuditLog
from odea_runtime.postgres import Connection, Database
from odea_runtime.repeats import RefusedError, Repeats


class UnknownPlanError(RefusedError):
    """No plan has this name."""

    def __init__(self) -> None:
        super().__init__(failure(ErrorCode.NOT_FOUND, "There is no such plan.", param="plan"))


class PlanStore:
    """Plans. A change and its audit row are one transaction. All methods may raise `StorageUnavailableError`."""

    def __init__(self, database: Database, repeats: Repeats) -> None:
        self._database = database
        self._queries: Any = database.queries
        self._repeats = repeats
        self._audit = AuditLog(database)

    async def set_plan(self, command: PlanSet) -> PlanReply:
        """Make or change a plan, and give its accounts the new limits. The same plan again is no change."""
        return await self._repeats.once(
            plans.PLAN_SET.verb, command, Plan, lambda connection: self._set(connection, command)
        )

    async def get_plan(self, name: str) -> PlanReply:
        """One plan."""
        async with self._database.connection() as connection:
            row = await self._queries.get_plan(connection, name=name)
        return _plan_from(row) if row else failure(ErrorCode.NOT_FOUND, param="name")

    async def list_plans(self) -> tuple[Plan, ...]:
        """All plans, by name."""
        async with self._database.connection() as connection:
            rows = [row async for row in self._queries.list_plans(connection)]
        return tuple(_plan_from(row) for row in rows)

    async def _set(self, connection: Connection, command: PlanSet) -> Plan:
        limits = command.limits()
        plan = Plan(**asdict(limits))
        if changed(await self._queries.set_plan(connection, **_plan_columns(plan))):
            await apply_plan(self._queries, connection, plan.window, plan=plan.name)
            detail = AuditDetail(plan=plan.name, limits=limits)
            await self._audit.record(connection, AuditAction.PLAN_SET, command, tenant_id=None, detail=detail)
        return plan


async def share_plan(queries: Any, connection: Connection, name: str) -> Window:
    """The kind of window of a plan, which nobody changes until the transaction ends.

    Raises:
        UnknownPlanError: there is no such plan.
    """
    window = await queries.share_plan(connection, name=name)
    if window is None:
        raise UnknownPlanError
    return Window(window)


async def apply_plan(
    queries: Any, connection: Connection, window: Window, *, plan: str | None = None, account_id: str | None = None
) -> None:
    """Give the limits of a plan with this kind of window to all of its accounts, or to one."""
    rows = queries.lock_plan_balances(connection, plan=plan, account_id=account_id)
    account_ids = [row["account_id"] async for row in rows]
    now_us = await queries.read_clock(connection)
    await queries.apply_plan(
        connection, account_ids=account_ids, now_us=now_us, window_ends_at_ms=window_ms(window, now_us)[1]
    )


def changed(status: str) -> bool:
    """Whether a statement changed a row, from its command tag (`UPDATE 1`, `INSERT 0 1`)."""
    return not status.endswith(" 0")


def _plan_columns(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "units": plan.units,
        "window": plan.window.value,
        "requests_per_minute": plan.requests_per_minute,
        "requests_burst": plan.requests_burst,
        "in_flight_max": plan.in_flight_max,
        "text_characters_max": plan.text_characters_max,
        "models": plan.models,
        "voices": plan.voices,
        "soft_limits_percent": plan.soft_limits_percent,
    }


def _plan_from(row: asyncpg.Record) -> Plan:
    return Plan(
        name=row["name"],
        units=row["units"],
        window=Window(row["window"]),
        requests_per_minute=row["requests_per_minute"],
        requests_burst=row["requests_burst"],
        in_flight_max=row["in_flight_max"],
        text_characters_max=row["text_characters_max"],
        models=tuple(row["models"]) if row["models"] is not None else None,
        voices=tuple(row["voices"]) if row["voices"] is not None else None,
        soft_limits_percent=tuple(row["soft_limits_percent"]),
    )
