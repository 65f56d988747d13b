"""Plans and accounts in PostgreSQL: administration and reading, apart from the hot path of holds."""

import time
from typing import Any

import asyncpg

from odea_contracts.errors import ErrorCode, failure
from odea_contracts.quota import Account as AccountView
from odea_contracts.quota import (
    AccountReply,
    AccountSet,
    Balance,
    Plan,
    PlanReply,
    Window,
)
from odea_quota.accounts import window_end_ms
from odea_quota.store import account_from
from odea_runtime.postgres import Connection, Database


class UnknownPlanError(Exception):
    """No plan has this name."""


class PlanStore:
    """Plans, accounts and balances, as an administrator and a reader see them.

    All methods may raise `StorageUnavailableError`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = database.queries

    async def set_plan(self, plan: Plan) -> Plan:
        """Create or change a plan; its accounts get the new limits in the same transaction."""
        async with self._database.transaction() as connection:
            await self._queries.set_plan(connection, **_plan_columns(plan))
            await self._apply_plan(connection, plan.name, of_plan=plan.name, account_id=None)
        return plan

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

    async def set_account(self, command: AccountSet) -> AccountReply:
        """Open an account, or move it to another plan: what is used stays used."""
        async with self._database.transaction() as connection:
            outcome = await self._set_account(connection, command)
        return outcome or await self.get_account(command.account_id)

    async def open_account(self, account_id: str, tenant_id: str, plan: str) -> None:
        """Open an account unless it is open already, under whatever plan.

        Raises:
            UnknownPlanError: there is no such plan.
        """
        async with self._database.transaction() as connection:
            row = await self._queries.get_plan(connection, name=plan)
            if row is None:
                raise UnknownPlanError(plan)
            command = AccountSet(account_id=account_id, tenant_id=tenant_id, plan=plan)
            await self._open(connection, command, row["window"])

    async def get_account(self, account_id: str) -> AccountReply:
        """One account with its plan and balance."""
        rows = await self._read([account_id])
        if not rows:
            return failure(ErrorCode.NOT_FOUND, param="account_id")
        row = rows[0]
        return AccountView(
            account_id=row["account_id"],
            tenant_id=row["tenant_id"],
            plan=row["plan"],
            suspended=row["suspended"],
            balance=_balance(row),
        )

    async def balances(self, account_ids: tuple[str, ...]) -> tuple[Balance, ...]:
        """The balances of those accounts that exist."""
        return tuple(_balance(row) for row in await self._read(list(account_ids)))

    async def _read(self, account_ids: list[str]) -> list[asyncpg.Record]:
        async with self._database.connection() as connection:
            return [row async for row in self._queries.read_accounts(connection, account_ids=account_ids)]

    async def _set_account(self, connection: Connection, command: AccountSet) -> AccountReply | None:
        plan = await self._queries.get_plan(connection, name=command.plan)
        if plan is None:
            return failure(ErrorCode.NOT_FOUND, "There is no such plan.", param="plan")
        if await self._open(connection, command, plan["window"]):
            return None
        moved = await self._queries.move_account(
            connection, account_id=command.account_id, tenant_id=command.tenant_id, plan=command.plan
        )
        if not _touched(moved):
            return failure(ErrorCode.CONFLICT, "The account belongs to another tenant.", param="tenant_id")
        await self._apply_plan(connection, command.plan, of_plan=None, account_id=command.account_id)
        return None

    async def _open(self, connection: Connection, command: AccountSet, window: str) -> bool:
        status = await self._queries.open_account(
            connection,
            account_id=command.account_id,
            tenant_id=command.tenant_id,
            plan=command.plan,
            window_ends_at_ms=_window_end_ms(window),
        )
        return _touched(status)

    async def _apply_plan(
        self, connection: Connection, plan: str, *, of_plan: str | None, account_id: str | None
    ) -> None:
        rows = [row async for row in self._queries.lock_plan_balances(connection, plan=of_plan, account_id=account_id)]
        row = await self._queries.get_plan(connection, name=plan)
        await self._queries.apply_plan(
            connection,
            plan=plan,
            account_ids=[row["account_id"] for row in rows],
            window_ends_at_ms=_window_end_ms(row["window"]),
        )


def _window_end_ms(window: str) -> int | None:
    # The first end only; from then on decisions roll windows by the clock of the database.
    return window_end_ms(Window(window), time.time_ns() // 1000)


def _touched(status: str) -> bool:
    """Whether a statement changed a row, from its command tag (`UPDATE 1`, `INSERT 0 1`)."""
    return not status.endswith(" 0")


def _balance(row: asyncpg.Record) -> Balance:
    account = account_from(row)
    account.roll(row["now_us"])
    return account.balance(row["now_us"])


def _plan_columns(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "units": plan.units,
        "window": plan.window.value,
        "requests_per_minute": plan.requests_per_minute,
        "requests_burst": plan.requests_burst,
        "in_flight_max": plan.in_flight_max,
    }


def _plan_from(row: asyncpg.Record) -> Plan:
    return Plan(
        name=row["name"],
        units=row["units"],
        window=Window(row["window"]),
        requests_per_minute=row["requests_per_minute"],
        requests_burst=row["requests_burst"],
        in_flight_max=row["in_flight_max"],
    )
