"""Accounts in PostgreSQL, as an administrator changes them, apart from the hot path of holds.

A change and its audit row are one transaction. Locks are taken in one order: the account, its plan, its balance.
"""

from typing import Any, Final

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from odea_contracts import plans
from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.base import Endpoint
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.plans import Account, AccountRef, AccountReply, AccountSet, Overrides, TopUp
from odea_quota.accounts import window_ms
from odea_quota.book import OPERATOR, Entry
from odea_quota.journal import Journal
from odea_quota.plan_store import apply_plan, changed, share_plan
from odea_quota.reader import NO_ACCOUNT, Reader
from odea_quota.rows import json_rows
from odea_runtime.postgres import Connection, Database
from odea_runtime.repeats import Repeats

DEFAULT_PLAN: Final = "default"
OTHER_TENANT: Final = failure(ErrorCode.CONFLICT, "The account belongs to another tenant.", param="tenant_id")
OTHER_TOPUP: Final = failure(ErrorCode.CONFLICT, "This id was used for another top-up.", param="topup_id")


class AccountStore:
    """Accounts and their top-ups. All methods may raise `StorageUnavailableError`."""

    def __init__(self, database: Database, repeats: Repeats) -> None:
        self._database = database
        self._queries: Any = database.queries
        self._repeats = repeats
        self._reader = Reader(database)
        self._journal = Journal(database)

    async def set_account(self, command: AccountSet) -> AccountReply:
        """Change what the command names of an account, and open it if it names a tenant. What is used stays used."""
        return await self._repeats.once(
            plans.ACCOUNT_SET.verb, command, Account, lambda connection: self._set(connection, command)
        )

    async def open_account(
        self, account_id: str, tenant_id: str, plan: str, overrides: Overrides | UnsetType = UNSET
    ) -> None:
        """Open an account unless it is open already, under whatever plan and with whatever limits.

        Raises:
            UnknownPlanError: there is no such plan.
        """
        async with self._database.transaction() as connection:
            if await self._open(connection, account_id, tenant_id, plan):
                await self._move(connection, account_id, plan, overrides)

    async def suspend_account(self, command: AccountRef) -> AccountReply:
        """Let an account hold nothing more. Open holds end as they would. Repeating it changes nothing."""
        return await self._turn(plans.ACCOUNT_SUSPEND, command, AuditAction.ACCOUNT_SUSPENDED)

    async def resume_account(self, command: AccountRef) -> AccountReply:
        """Let an account hold again. Repeating it changes nothing."""
        return await self._turn(plans.ACCOUNT_RESUME, command, AuditAction.ACCOUNT_RESUMED)

    async def top_up(self, command: TopUp) -> AccountReply:
        """Give an account extra units. Repeating it with the same id and content changes nothing."""
        try:
            return await self._repeats.once(
                plans.TOP_UP.verb, command, Account, lambda connection: self._top_up(connection, command)
            )
        except asyncpg.DatetimeFieldOverflowError:
            return failure(ErrorCode.INVALID_VALUE, param="expires_at_ms")

    async def _set(self, connection: Connection, command: AccountSet) -> AccountReply:
        account_id, tenant_id = command.account_id, command.tenant_id
        known = await self._queries.lock_account(connection, account_id=account_id)
        opened = False
        if known is None:
            if tenant_id is UNSET:
                return NO_ACCOUNT
            opened = await self._open(connection, account_id, tenant_id, command.plan or DEFAULT_PLAN)
            known = await self._queries.lock_account(connection, account_id=account_id)
        if tenant_id not in {UNSET, known["tenant_id"]}:
            return OTHER_TENANT
        moved = await self._move(connection, account_id, command.plan or known["plan"], command.overrides)
        account = await self._reader.account_in(connection, account_id)
        if opened or moved:
            detail = AuditDetail(plan=command.plan, overrides=command.overrides)
            await self._journal.record(connection, AuditAction.ACCOUNT_SET, command, account, detail)
        return account

    async def _open(self, connection: Connection, account_id: str, tenant_id: str, plan: str) -> bool:
        """Whether this opened it."""
        window = await share_plan(self._queries, connection, plan)
        starts_at_ms, ends_at_ms = window_ms(window, await self._queries.read_clock(connection))
        opened = await self._queries.open_account(
            connection,
            account_id=account_id,
            tenant_id=tenant_id,
            plan=plan,
            window_started_at_ms=starts_at_ms,
            window_ends_at_ms=ends_at_ms,
        )
        return changed(opened)

    async def _move(self, connection: Connection, account_id: str, plan: str, overrides: Overrides | UnsetType) -> bool:
        """Whether the account has another plan or other overrides now."""
        window = await share_plan(self._queries, connection, plan)
        text = None if overrides is UNSET else msgspec.json.encode(overrides).decode()
        moved = await self._queries.move_account(connection, account_id=account_id, plan=plan, overrides=text)
        if not changed(moved):
            return False
        await apply_plan(self._queries, connection, window, account_id=account_id)
        return True

    async def _turn(
        self, endpoint: Endpoint[AccountRef, AccountReply], command: AccountRef, action: AuditAction
    ) -> AccountReply:
        async def turn(connection: Connection) -> AccountReply:
            suspended = action is AuditAction.ACCOUNT_SUSPENDED
            turned = await self._queries.set_suspended(connection, account_id=command.account_id, suspended=suspended)
            account = await self._reader.account_in(connection, command.account_id)
            if changed(turned):
                await self._journal.record(connection, action, command, account)
            return account

        return await self._repeats.once(endpoint.verb, command, Account, turn)

    async def _top_up(self, connection: Connection, command: TopUp) -> AccountReply:
        # The account's lock comes first, as in every decision: its top-ups are guarded by it.
        locked = self._queries.lock_balances(connection, account_ids=[command.account_id])
        if not [row async for row in locked]:
            return NO_ACCOUNT
        content = {"account_id": command.account_id, "units": command.units, "expires_at_ms": command.expires_at_ms}
        added = await self._queries.add_topup(connection, topup_id=command.topup_id, **content)
        if not changed(added) and not await self._queries.is_same_topup(
            connection, topup_id=command.topup_id, **content
        ):
            return OTHER_TOPUP
        if changed(added):
            entry = Entry(
                cause_id=command.topup_id, debit=OPERATOR, credit=f"topup:{command.topup_id}", units=command.units
            )
            now_us = await self._queries.read_clock(connection)
            await self._queries.write_entries(connection, now_us=now_us, entries=json_rows([entry]))
        account = await self._reader.account_in(connection, command.account_id)
        if changed(added):
            detail = AuditDetail(units=command.units, topup_id=command.topup_id, expires_at_ms=command.expires_at_ms)
            await self._journal.record(connection, AuditAction.TOPPED_UP, command, account, detail)
        return account
