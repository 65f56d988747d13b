"""Plans and accounts in PostgreSQL: administration and reading, apart from the hot path of holds."""

from datetime import date
from typing import Any, Final

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from odea_contracts.errors import ErrorCode, failure
from odea_contracts.plans import Account as AccountView
from odea_contracts.plans import AccountReply, AccountSet, Overrides, Plan, PlanReply, TopUp
from odea_contracts.quota import Balance, UsagePoint, UsageSeries, UsageSeriesReply, UsageSeriesReport, Window
from odea_quota import columns
from odea_quota.accounts import window_ms
from odea_quota.book import OPERATOR, Entry
from odea_quota.store import account_from, attach_topups
from odea_runtime.postgres import Connection, Database

POINTS_MAX: Final = 5_000
"""Points of one usage series: as many as fit a message of the bus with room to spare."""

_OVERRIDES = msgspec.json.Decoder(Overrides)


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
            await self._apply_plan(connection, plan.window, plan=plan.name)
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
        try:
            async with self._database.transaction() as connection:
                window = await self._window_of(connection, command.plan)
                await self._open(connection, command, window)
                if not await self._move(connection, command):
                    return failure(ErrorCode.CONFLICT, "The account belongs to another tenant.", param="tenant_id")
                await self._apply_plan(connection, window, account_id=command.account_id)
        except UnknownPlanError:
            return failure(ErrorCode.NOT_FOUND, "There is no such plan.", param="plan")
        return await self.get_account(command.account_id)

    async def open_account(
        self, account_id: str, tenant_id: str, plan: str, overrides: Overrides | UnsetType = UNSET
    ) -> None:
        """Open an account unless it is open already, under whatever plan and with whatever limits.

        Raises:
            UnknownPlanError: there is no such plan.
        """
        async with self._database.transaction() as connection:
            window = await self._window_of(connection, plan)
            command = AccountSet(account_id=account_id, tenant_id=tenant_id, plan=plan, overrides=overrides)
            if await self._open(connection, command, window) and overrides is not UNSET:
                await self._move(connection, command)
                await self._apply_plan(connection, window, account_id=account_id)

    async def suspend_account(self, account_id: str, *, suspended: bool) -> AccountReply:
        """Let an account hold nothing more, or let it again. Open holds end as they would."""
        async with self._database.connection() as connection:
            await self._queries.set_suspended(connection, account_id=account_id, suspended=suspended)
        return await self.get_account(account_id)

    async def top_up(self, command: TopUp) -> AccountReply:
        """Give an account extra units. Repeating it with the same id and content changes nothing."""
        try:
            async with self._database.transaction() as connection:
                # The account's lock comes first, as in every decision: its top-ups are guarded by it.
                locked = self._queries.lock_balances(connection, account_ids=[command.account_id])
                if not [row async for row in locked]:
                    return failure(ErrorCode.NOT_FOUND, param="account_id")
                if not await self._add_topup(connection, command):
                    return failure(ErrorCode.CONFLICT, "This id was used for another top-up.", param="topup_id")
        except asyncpg.DatetimeFieldOverflowError:
            return failure(ErrorCode.INVALID_VALUE, param="expires_at_ms")
        return await self.get_account(command.account_id)

    async def get_account(self, account_id: str) -> AccountReply:
        """One account with its plan and balance."""
        rows = await self._read([account_id])
        if not rows:
            return failure(ErrorCode.NOT_FOUND, param="account_id")
        row, balance = rows[0]
        return AccountView(
            account_id=row["account_id"],
            tenant_id=row["tenant_id"],
            plan=row["plan"],
            suspended=row["suspended"],
            balance=balance,
            overrides=_OVERRIDES.decode(row["overrides"]),
        )

    async def balances(self, account_ids: tuple[str, ...]) -> tuple[Balance, ...]:
        """The balances of those accounts that exist."""
        return tuple(balance for _, balance in await self._read(list(account_ids)))

    async def usage_series(self, query: UsageSeries) -> UsageSeriesReply:
        """What a tenant used, by day and key."""
        try:
            first_day = date.fromisoformat(query.first_day)
        except ValueError:
            return failure(ErrorCode.INVALID_VALUE, "There is no such day.", param="first_day")
        async with self._database.connection() as connection:
            rows = self._queries.read_usage_days(
                connection,
                tenant_id=query.tenant_id,
                first_day=first_day,
                days=query.days,
                key_id=query.key_id,
                limit=POINTS_MAX + 1,
            )
            points = [UsagePoint(**dict(row)) async for row in rows]
        if len(points) > POINTS_MAX:
            return failure(ErrorCode.INVALID_VALUE, "Ask for fewer days, or for one key.", param="days")
        return UsageSeriesReport(points=tuple(points))

    async def _read(self, account_ids: list[str]) -> list[tuple[asyncpg.Record, Balance]]:
        # One snapshot: a balance and its top-ups are to be of the same moment.
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = [row async for row in self._queries.read_accounts(connection, account_ids=account_ids)]
            accounts = {row["account_id"]: account_from(row) for row in rows}
            await attach_topups(self._queries, connection, accounts, account_ids)
        for row in rows:
            accounts[row["account_id"]].roll(row["now_us"])
        return [(row, accounts[row["account_id"]].balance(row["now_us"])) for row in rows]

    async def _window_of(self, connection: Connection, plan: str) -> Window:
        window = await self._queries.share_plan(connection, name=plan)
        if window is None:
            raise UnknownPlanError(plan)
        return Window(window)

    async def _move(self, connection: Connection, command: AccountSet) -> bool:
        """Whether the account is the tenant's, and has the plan and the overrides now."""
        overrides = None if command.overrides is UNSET else msgspec.json.encode(command.overrides).decode()
        moved = await self._queries.move_account(
            connection,
            account_id=command.account_id,
            tenant_id=command.tenant_id,
            plan=command.plan,
            overrides=overrides,
        )
        return _touched(moved)

    async def _open(self, connection: Connection, command: AccountSet, window: Window) -> bool:
        """Whether this opened it."""
        starts_at_ms, ends_at_ms = window_ms(window, await self._queries.read_clock(connection))
        opened = await self._queries.open_account(
            connection,
            account_id=command.account_id,
            tenant_id=command.tenant_id,
            plan=command.plan,
            window_started_at_ms=starts_at_ms,
            window_ends_at_ms=ends_at_ms,
        )
        return _touched(opened)

    async def _apply_plan(
        self, connection: Connection, window: Window, *, plan: str | None = None, account_id: str | None = None
    ) -> None:
        rows = self._queries.lock_plan_balances(connection, plan=plan, account_id=account_id)
        account_ids = [row["account_id"] async for row in rows]
        now_us = await self._queries.read_clock(connection)
        await self._queries.apply_plan(
            connection, account_ids=account_ids, now_us=now_us, window_ends_at_ms=window_ms(window, now_us)[1]
        )

    async def _add_topup(self, connection: Connection, command: TopUp) -> bool:
        content = msgspec.structs.asdict(command)
        added = await self._queries.add_topup(connection, **content)
        if _touched(added):
            entry = Entry(
                cause_id=command.topup_id, debit=OPERATOR, credit=f"topup:{command.topup_id}", units=command.units
            )
            now_us = await self._queries.read_clock(connection)
            await self._queries.write_entries(connection, now_us=now_us, **columns.entry_columns([entry]))
            return True
        same: bool = await self._queries.is_same_topup(connection, **content)
        return same


def _touched(status: str) -> bool:
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
