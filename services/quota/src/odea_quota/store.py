"""Rows to structs and back. One batch is one transaction; decisions are the ledger's, not made here."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec
from msgspec import Struct

from odea_contracts.quota import Reserve, Window
from odea_contracts.writeoffs import WriteOff
from odea_quota import columns
from odea_quota.accounts import Account, TopUpBalance
from odea_quota.book import Book, Entry, Expire, Hold, Kind, Resolution
from odea_quota.ledger import Answer, Command, decide
from odea_runtime.postgres import Connection, Database


class HoldStore:
    """Holds and balances in PostgreSQL.

    Args:
        database: where they are.
        write_off_s: how old a charge may be that is taken back.
    """

    def __init__(self, database: Database, *, write_off_s: float = 3600) -> None:
        self._database = database
        self._write_off_us = int(write_off_s * 1_000_000)
        self._queries = database.queries

    async def apply(self, commands: Sequence[Command]) -> list[Answer]:
        """Decide and write a batch in one transaction: all of its answers are durable, or an error and none is.

        Raises:
            StorageUnavailableError: it is unknown whether the batch was written.
            asyncpg.IntegrityConstraintViolationError: a command clashes with what another replica wrote, or a
                constraint caught a fault in the rules; nothing was written.
        """
        names: set[str] = set()
        while True:
            try:
                return await self._apply(commands, names)
            except _LateAccountsError as late:
                # Locked after the others they could stand before one of them, and another replica wait for us while we
                # wait for it. So all locks are given back, and taken in order together with these.
                names |= late.names

    async def _apply(self, commands: Sequence[Command], names: set[str]) -> list[Answer]:
        async with self._database.transaction() as connection:
            book = Book(accounts={}, holds={}, resolutions={}, write_off_us=self._write_off_us)
            write_offs = {command.hold_id for command in commands if isinstance(command, WriteOff)}
            now_us = await self._lock(connection, book, commands, names, write_offs)
            if late := _accounts_wanted(book, write_offs) - book.accounts.keys() - names:
                # Of a hold that another replica opened since the first look.
                raise _LateAccountsError(late)
            if write_offs:
                await self._load_charges(connection, book, write_offs)
            answers = [decide(book, command, now_us) for command in commands]
            await self._save(connection, book, now_us)
        return answers

    async def overdue(self, limit: int) -> list[Expire]:
        """Commands that end the holds whose lease is over."""
        async with self._database.connection() as connection:
            return [Expire(row["hold_id"]) async for row in self._queries.find_overdue(connection, limit=limit)]

    async def gauges(self) -> tuple[int, float]:
        """How many holds are open, and the age of the oldest in seconds."""
        async with self._database.connection() as connection:
            row = await self._queries.hold_gauges(connection)
        return row["open"], row["oldest_s"]

    async def ensure_partitions(self) -> None:
        """Make the record's and the ledger's partitions for this month and the next three.

        Raises:
            StorageUnavailableError: something stands in the way; nothing was made.
        """
        async with self._database.connection() as connection:
            await self._queries.ensure_partitions(connection)

    async def _lock(
        self, connection: Connection, book: Book, commands: Sequence[Command], names: set[str], write_offs: set[str]
    ) -> int:
        """Lock the accounts of a batch and read all that it names; the time of the decision."""
        wanted = names | {name for command in commands if isinstance(command, Reserve) for name in command.accounts}
        ending = [command.hold_id for command in commands if not isinstance(command, Reserve)]
        asked = {"hold_ids": [command.hold_id for command in commands], "write_off_ids": list(write_offs)}
        lock = self._queries.lock_batch
        row = await lock(connection, account_ids=list(wanted), ending_ids=ending, **asked)
        _fill(book, row)
        if not row["current"] or any(name not in book.holds and name not in book.resolutions for name in ending):
            # Another replica changed an account while this one waited for it, and with it what was read beside it; or
            # it has only now opened a hold that is asked for. The same accounts are read again, which nobody can change
            # any more; one that is missing could only be locked out of order.
            row = await lock(connection, account_ids=list(book.accounts), ending_ids=[], **asked)
            _fill(book, row)
        if charged := [hold_id for hold_id, ended in book.resolutions.items() if ended.units]:
            # Only for whoever asks again, so not a part of every batch.
            async for reversal in self._queries.find_reversals(connection, hold_ids=charged):
                ended = book.resolutions[reversal["hold_id"]]
                ended.units, ended.taken_back = ended.units - reversal["units"], reversal["units"]
        now_us: int = row["now_us"]
        return now_us

    async def _load_charges(self, connection: Connection, book: Book, hold_ids: set[str]) -> None:
        """What is to be taken back, and the top-ups that it came from; those that are used up are not loaded else."""
        charged = [
            hold_id for hold_id in hold_ids if (ended := book.resolutions.get(hold_id)) is not None and ended.units
        ]
        if not charged:
            return
        async for row in self._queries.find_charges(connection, hold_ids=charged):
            entry = Entry(**dict(row))
            book.charges.setdefault(entry.cause_id, []).append(entry)
        async for row in self._queries.find_spent_topups(connection, hold_ids=charged):
            topup = TopUpBalance(**dict(row))
            known = book.accounts[topup.account_id].topups
            if all(one.topup_id != topup.topup_id for one in known):
                known.append(topup)

    async def _save(self, connection: Connection, book: Book, now_us: int) -> None:
        queries = self._queries
        if book.changed:
            await queries.write_batch(
                connection,
                closed=list(book.closed),
                **columns.balance_columns(list(book.changed.values())),
                **columns.hold_columns(list(book.opened.values())),
            )
        if book.changed_topups:
            await queries.write_topups(connection, **columns.topup_columns(list(book.changed_topups.values())))
        extended = [hold for hold_id, hold in book.extended.items() if hold_id not in book.opened]
        if extended:
            await queries.extend_holds(
                connection,
                hold_ids=[hold.hold_id for hold in extended],
                lease_ends_at_ms=[hold.lease_ends_at_ms for hold in extended],
                units=[hold.units for hold in extended],
                topups=columns.topups_column(extended),
            )
        if book.resolved or book.entries:
            await queries.record_batch(
                connection,
                now_us=now_us,
                **columns.resolution_columns(book.resolved, now_us),
                **columns.entry_columns(book.entries),
                **columns.usage_columns(book.resolved),
            )
        if book.reversals:
            reversals = columns.reversal_columns(book.reversals, now_us)
            await queries.write_reversals(connection, now_us=now_us, **reversals)
        if book.crossings:
            await queries.write_events(connection, **columns.crossing_columns(book.crossings, now_us))


class _LateAccountsError(Exception):
    """A batch would change accounts that it has not locked; nothing was decided."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(f"{len(names)} accounts are not locked")
        self.names = names


class _Ended(Struct, gc=False):
    """A hold's end as `lock_batch` tells it."""

    hold_id: str
    kind: Kind
    late: bool
    account_ids: tuple[str, ...]
    units_held: int
    units_settled: int
    resolved_at_us: int
    reserved_at_ms: int
    request_id: str
    tenant_id: str
    key_id: str

    def resolution(self) -> Resolution:
        """The same as the ledger knows it."""
        hold = Hold(
            hold_id=self.hold_id,
            account_ids=self.account_ids,
            units=self.units_held,
            lease_ends_at_ms=0,
            reserved_at_ms=self.reserved_at_ms,
            request_id=self.request_id,
            tenant_id=self.tenant_id,
            key_id=self.key_id,
        )
        return Resolution(
            hold=hold, kind=self.kind, units=self.units_settled, late=self.late, at_us=self.resolved_at_us
        )


_BALANCES: Final = msgspec.json.Decoder(list[Account])
_TOPUPS: Final = msgspec.json.Decoder(list[TopUpBalance])
_HOLDS: Final = msgspec.json.Decoder(list[Hold])
_ENDED: Final = msgspec.json.Decoder(list[_Ended])


def _fill(book: Book, row: asyncpg.Record) -> None:
    """Put into a book what `lock_batch` found."""
    book.accounts = {account.account_id: account for account in _BALANCES.decode(row["balances"] or "[]")}
    for topup in _TOPUPS.decode(row["topups"] or "[]"):
        book.accounts[topup.account_id].topups.append(topup)
    book.holds = {hold.hold_id: hold for hold in _HOLDS.decode(row["holds"] or "[]")}
    book.resolutions = {ended.hold_id: ended.resolution() for ended in _ENDED.decode(row["resolutions"] or "[]")}


def _accounts_wanted(book: Book, write_offs: set[str]) -> set[str]:
    """Accounts that a decision on these holds may change.

    An expired hold's too, since it may be settled late, and those of any that is to be written off.
    """
    ended = [
        ended.hold for hold_id, ended in book.resolutions.items() if ended.kind is Kind.EXPIRED or hold_id in write_offs
    ]
    return {name for hold in [*book.holds.values(), *ended] for name in hold.account_ids}


async def attach_topups(
    queries: Any, connection: Connection, accounts: dict[str, Account], account_ids: list[str]
) -> None:
    """Give accounts their top-ups, those that still matter."""
    async for row in queries.find_topups(connection, account_ids=account_ids):
        topup = TopUpBalance(
            topup_id=row["topup_id"],
            account_id=row["account_id"],
            units_left=row["units_left"],
            units_held=row["units_held"],
            expires_at_ms=row["expires_at_ms"],
        )
        if topup.account_id in accounts:
            accounts[topup.account_id].topups.append(topup)


def account_from(row: asyncpg.Record) -> Account:
    """The hot half of an account from its row."""
    return Account(
        account_id=row["account_id"],
        suspended=row["suspended"],
        window=Window(row["window"]),
        limit=row["units_limit"],
        requests_per_minute=row["requests_per_minute"],
        requests_burst=row["requests_burst"],
        in_flight_max=row["in_flight_max"],
        text_characters_max=row["text_characters_max"],
        models=tuple(row["models"]) if row["models"] is not None else None,
        voices=tuple(row["voices"]) if row["voices"] is not None else None,
        soft_limits_percent=tuple(row["soft_limits_percent"]),
        crossed_percent=row["crossed_percent"],
        window_started_at_ms=row["window_started_at_ms"],
        window_ends_at_ms=row["window_ends_at_ms"],
        used=row["used"],
        held=row["held"],
        in_flight=row["in_flight"],
        requests_tat_us=row["requests_tat_us"],
    )
