"""What an account used before it was here, as a charge in its present window (P1: never past its limit).

A transaction of its own and not a command of the batches: it comes once for an account, and would be one more look for
each of their decisions.
"""

from typing import Any, Final

from odea_contracts import plans
from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.plans import Account, AccountReply, CarryOver
from odea_contracts.quota import CARRIED_OVER
from odea_quota.accounts import Account as HotAccount
from odea_quota.book import Book
from odea_quota.journal import Journal
from odea_quota.reader import NO_ACCOUNT, Reader
from odea_quota.rows import batch_rows
from odea_quota.store import account_from
from odea_runtime.postgres import Connection, Database
from odea_runtime.repeats import Repeats

OTHER_CARRYOVER: Final = failure(ErrorCode.CONFLICT, "This id was used for another carry-over.", param="carryover_id")


class CarryOvers:
    """Takes over what was used. It may raise `StorageUnavailableError`, and can be asked again then."""

    def __init__(self, database: Database, repeats: Repeats) -> None:
        self._queries: Any = database.queries
        self._repeats = repeats
        self._reader = Reader(database)
        self._journal = Journal(database)

    async def carry_over(self, command: CarryOver) -> AccountReply:
        """Charge an account with what was used before, or refuse and change nothing. Its id is used once, for ever."""
        return await self._repeats.once(
            plans.CARRY_OVER.verb, command, Account, lambda connection: self._carry_over(connection, command)
        )

    async def _carry_over(self, connection: Connection, command: CarryOver) -> AccountReply:
        known = await self._queries.lock_account(connection, account_id=command.account_id)
        if known is None:
            return NO_ACCOUNT
        content = {"account_id": command.account_id, "units": command.units}
        tenant_id: str = known["tenant_id"]
        rows = self._queries.lock_balances(connection, account_ids=[command.account_id])
        (account,) = [account_from(row) async for row in rows]
        now_us: int = await self._queries.read_clock(connection)
        added = await self._queries.add_carryover(
            connection, carryover_id=command.carryover_id, tenant_id=tenant_id, now_us=now_us, **content
        )
        if not added:
            same = await self._queries.is_same_carryover(connection, carryover_id=command.carryover_id, **content)
            return await self._reader.account_in(connection, command.account_id) if same else OTHER_CARRYOVER
        account.roll(now_us)
        book = Book(accounts={account.account_id: account}, holds={}, resolutions={})
        refused = carry(book, account, tenant_id, command)
        if refused:
            return refused
        await self._save(connection, book, tenant_id, now_us)
        reply = await self._reader.account_in(connection, command.account_id)
        detail = AuditDetail(units=command.units, carryover_id=command.carryover_id)
        await self._journal.record(connection, AuditAction.CARRIED_OVER, command, reply, detail)
        return reply

    async def _save(self, connection: Connection, book: Book, tenant_id: str, now_us: int) -> None:
        queries = self._queries
        await queries.write_batch(connection, **batch_rows(book, now_us))
        # What a key's own account used is a part of what its tenant used, and the days show the tenant's.
        for entry in book.entries:
            if entry.debit == tenant_id:
                await queries.add_usage(
                    connection, tenant_id=tenant_id, now_us=now_us, key_id=CARRIED_OVER, units=entry.units
                )


def carry(book: Book, account: HotAccount, tenant_id: str, command: CarryOver) -> Failure | None:
    """Charge it if the plan has room for all of it, or say how much there is."""
    room = account.room()
    if room is not None and command.units > room:
        message = f"The limit of the account leaves {room} units; nothing was charged."
        return failure(ErrorCode.EXCEEDS_LIMIT, message, param="units")
    book.carry_over(account, tenant_id, command.carryover_id, command.units)
    return None
