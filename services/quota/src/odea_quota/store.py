"""Rows to structs and back. One batch is one write; decisions are the ledger's, not made here."""

from collections.abc import Sequence, Set
from typing import Any, Final

import asyncpg
from prometheus_client import Counter

from odea_contracts.quota import Reserve, Window
from odea_contracts.writeoffs import WriteOff
from odea_quota.accounts import Account, TopUpBalance
from odea_quota.book import Book, Entry, Expire, Kind
from odea_quota.ledger import Answer, Command, decide
from odea_quota.rows import batch_rows, json_rows, read_book
from odea_runtime.postgres import Connection, Database, transaction_on

_OVERTAKEN = Counter("odea_quota_overtaken_total", "Batches that were decided again, since another was faster")


_WARY_BATCHES: Final = 100
"""How many batches take locks first after one was overtaken. Who never is alone decides every hundredth twice."""


class HoldStore:
    """Holds and balances in PostgreSQL.

    A batch is decided on a look that locks nothing, and written by one statement that refuses if a balance has changed
    since. So a replica that has its accounts for itself, as one nearly always has, waits for the database twice.
    Whoever was overtaken by another replica takes the locks first, for that batch and those that follow.

    Args:
        database: where they are.
        write_off_s: how old a charge may be that is taken back.
    """

    def __init__(self, database: Database, *, write_off_s: float = 3600) -> None:
        self._database = database
        self._write_off_us = int(write_off_s * 1_000_000)
        self._queries = database.queries
        self._wary_for = 0

    async def apply(self, commands: Sequence[Command]) -> list[Answer]:
        """Decide and write a batch: all of its answers are durable, or an error and none is.

        Raises:
            StorageUnavailableError: it is unknown whether the batch was written.
            asyncpg.IntegrityConstraintViolationError: a command clashes with what another replica wrote, or a
                constraint caught a fault in the rules; nothing was written.
        """
        if self._wary_for:
            self._wary_for -= 1
            return await self._apply_locked(commands)
        try:
            async with self._database.connection() as connection:
                book, now_us = await self._look(connection, commands)
                return await self._decide(connection, commands, book, now_us)
        except asyncpg.SerializationError:
            _OVERTAKEN.inc()
            self._wary_for = _WARY_BATCHES
        return await self._apply_locked(commands)

    async def _apply_locked(self, commands: Sequence[Command]) -> list[Answer]:
        """The same behind the locks of the batch's accounts, which nobody else can change by then."""
        names: Set[str] = frozenset()
        while True:
            async with self._database.connection() as connection, transaction_on(connection):
                locked = await self._lock(connection, commands, names)
                book, now_us = await self._look(connection, commands, names)
                if book.accounts.keys() <= locked:
                    return await self._decide(connection, commands, book, now_us)
            # One is of a hold that has ended, or that another replica has opened since. Locked after the others, it
            # might stand before one of them, and that replica wait for us as we wait for it. So all are locked anew.
            names = book.accounts.keys()

    async def _lock(self, connection: Connection, commands: Sequence[Command], names: Set[str]) -> set[str]:
        """Take the locks of all accounts that a batch names, in order, and of `names`; says which there are."""
        rows = self._queries.lock_batch(
            connection,
            account_ids=list(_accounts_of(commands) | names),
            hold_ids=[command.hold_id for command in commands],
        )
        return {row["account_id"] async for row in rows}

    async def _decide(
        self, connection: Connection, commands: Sequence[Command], book: Book, now_us: int
    ) -> list[Answer]:
        """Decide a batch and write what it changed.

        Raises:
            asyncpg.SerializationError: another replica has decided on one of the accounts since; nothing was written.
        """
        answers = [decide(book, command, now_us) for command in commands]
        await self._write(connection, book, now_us)
        return answers

    async def overdue(self, limit: int) -> list[Expire]:
        """Commands that end the holds whose lease is over."""
        async with self._database.connection() as connection:
            rows = self._queries.find_overdue(connection, limit=limit)
            return [Expire(row["hold_id"], row["account_id"]) async for row in rows]

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

    async def _look(
        self, connection: Connection, commands: Sequence[Command], names: Set[str] = frozenset()
    ) -> tuple[Book, int]:
        """All that a batch names or may touch, and the accounts `names`; with the time of the decision."""
        wanted = names | _accounts_of(commands)
        write_offs = {command.hold_id for command in commands if isinstance(command, WriteOff)}
        hold_ids = [command.hold_id for command in commands]
        row = await self._queries.look_batch(connection, account_ids=list(wanted), hold_ids=hold_ids)
        book = read_book(row, self._write_off_us)
        if missing := _accounts_of_ended(book, write_offs) - book.accounts.keys() - names:
            return await self._look(connection, commands, wanted | missing)
        if charged := [hold_id for hold_id, ended in book.resolutions.items() if ended.units]:
            # Only for whoever asks again, so not a part of every batch.
            async for reversal in self._queries.find_reversals(connection, hold_ids=charged):
                ended = book.resolutions[reversal["hold_id"]]
                ended.units, ended.taken_back = ended.units - reversal["units"], reversal["units"]
        if write_offs:
            await self._load_charges(connection, book, write_offs)
        return book, row["now_us"]

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

    async def _write(self, connection: Connection, book: Book, now_us: int) -> None:
        if not book.changed:
            return
        rows = batch_rows(book, now_us)
        if not book.reversals:
            await self._queries.write_batch(connection, **rows)
            return
        # A day's usage can't be changed twice in one statement.
        async with transaction_on(connection):
            await self._queries.write_batch(connection, **rows)
            await self._queries.write_reversals(connection, reversals=json_rows(book.reversals), now_us=now_us)


def _accounts_of(commands: Sequence[Command]) -> set[str]:
    """The accounts that commands name; most name a hold only."""
    return {name for command in commands if isinstance(command, Reserve) for name in command.accounts}


def _accounts_of_ended(book: Book, write_offs: set[str]) -> set[str]:
    """Accounts that a decision on ended holds may change: expired ones, that are settled late, and written-off ones."""
    return {
        name
        for hold_id, ended in book.resolutions.items()
        if ended.kind is Kind.EXPIRED or hold_id in write_offs
        for name in ended.hold.account_ids
    }


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
        version=row.get("version", ""),
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
