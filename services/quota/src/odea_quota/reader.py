"""Where accounts stand and what was used, for reading: nothing here is locked or changed."""

from datetime import date
from typing import Any, Final

import asyncpg
import msgspec

from odea_contracts.errors import ErrorCode, failure
from odea_contracts.plans import Account, AccountReply, Overrides
from odea_contracts.quota import Balance, UsagePoint, UsageSeries, UsageSeriesReply, UsageSeriesReport
from odea_quota.store import account_from, attach_topups
from odea_runtime.postgres import Connection, Database

POINTS_MAX: Final = 5_000
"""Points of one usage series: as many as fit a message of the bus with room to spare."""
NO_ACCOUNT: Final = failure(ErrorCode.NOT_FOUND, param="account_id")

_OVERRIDES = msgspec.json.Decoder(Overrides)


class Reader:
    """Reads accounts and usage. All methods may raise `StorageUnavailableError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries: Any = database.queries

    async def account(self, account_id: str) -> AccountReply:
        """One account with its plan and balance."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await self.account_in(connection, account_id)

    async def account_in(self, connection: Connection, account_id: str) -> AccountReply:
        """The account as the transaction of `connection` sees it; whole if it has the lock on the balance."""
        rows = await self._read(connection, [account_id])
        if not rows:
            return NO_ACCOUNT
        row, balance = rows[0]
        return Account(
            account_id=row["account_id"],
            tenant_id=row["tenant_id"],
            plan=row["plan"],
            suspended=row["suspended"],
            balance=balance,
            overrides=_OVERRIDES.decode(row["overrides"]),
        )

    async def balances(self, account_ids: tuple[str, ...]) -> tuple[Balance, ...]:
        """The balances of those accounts that exist."""
        # One snapshot: a balance and its top-ups are to be of the same moment.
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return tuple(balance for _, balance in await self._read(connection, list(account_ids)))

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

    async def _read(self, connection: Connection, account_ids: list[str]) -> list[tuple[asyncpg.Record, Balance]]:
        rows = [row async for row in self._queries.read_accounts(connection, account_ids=account_ids)]
        accounts = {row["account_id"]: account_from(row) for row in rows}
        await attach_topups(self._queries, connection, accounts, account_ids)
        for row in rows:
            accounts[row["account_id"]].roll(row["now_us"])
        return [(row, accounts[row["account_id"]].balance(row["now_us"])) for row in rows]
