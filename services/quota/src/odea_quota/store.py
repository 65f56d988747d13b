"""Rows to structs and back. One batch is one transaction; decisions are the ledger's, not made here."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from odea_contracts import subjects
from odea_contracts.quota import Extend, HoldEvent, Release, Reserve, Settle, Window
from odea_quota.accounts import Account
from odea_quota.ledger import Answer, Book, Command, Expire, Hold, Kind, Resolution, decide
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Connection, Database

_SUBJECTS = {
    Kind.SETTLED: subjects.QUOTA_SETTLED,
    Kind.RELEASED: subjects.QUOTA_RELEASED,
    Kind.EXPIRED: subjects.QUOTA_EXPIRED,
}


class HoldStore:
    """Holds and balances in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = database.queries

    async def apply(self, commands: Sequence[Command]) -> list[Answer]:
        """Decide and write a batch in one transaction: all of its answers are durable, or an error and none is.

        Raises:
            StorageUnavailableError: it is unknown whether the batch was written.
            asyncpg.IntegrityConstraintViolationError: a command clashes with what another replica wrote, or a
                constraint caught a fault in the rules; nothing was written.
        """
        async with self._database.transaction() as connection:
            book = await self._load(connection, commands)
            await self._load_holds(connection, book, [command.hold_id for command in commands])
            now_us: int = await self._queries.read_clock(connection)
            answers = [decide(book, command, now_us) for command in commands]
            await self._save(connection, book, now_us)
        return answers

    async def overdue(self, limit: int) -> list[Expire]:
        """Commands that end the holds whose lease is over."""
        async with self._database.connection() as connection:
            rows = [row async for row in self._queries.find_overdue(connection, limit=limit)]
        return [Expire(row["hold_id"]) for row in rows]

    async def gauges(self) -> tuple[int, float]:
        """How many holds are open, and the age of the oldest in seconds."""
        async with self._database.connection() as connection:
            row = await self._queries.hold_gauges(connection)
        return row["open"], row["oldest_s"]

    async def ensure_partitions(self) -> None:
        """Make the usage record's partitions for this month and the next."""
        async with self._database.connection() as connection:
            await self._queries.ensure_partitions(connection)

    async def _load(self, connection: Connection, commands: Sequence[Command]) -> Book:
        names = {name for command in commands if isinstance(command, Reserve) for name in command.accounts}
        others = [command.hold_id for command in commands if isinstance(command, (Settle, Release, Extend, Expire))]
        if others:
            rows = [row async for row in self._queries.find_hold_accounts(connection, hold_ids=others)]
            names.update(row["account_id"] for row in rows)
        rows = [row async for row in self._queries.lock_balances(connection, account_ids=list(names))]
        return Book(accounts={row["account_id"]: account_from(row) for row in rows}, holds={}, resolutions={})

    async def _load_holds(self, connection: Connection, book: Book, hold_ids: list[str]) -> None:
        async for row in self._queries.find_holds(connection, hold_ids=hold_ids):
            hold = _hold_from(row, row["units"], row["lease_ends_at_ms"])
            book.holds[hold.hold_id] = hold
        missing = [hold_id for hold_id in hold_ids if hold_id not in book.holds]
        if missing:
            async for row in self._queries.find_resolutions(connection, hold_ids=missing):
                hold = _hold_from(row, row["units_held"], 0)
                book.resolutions[hold.hold_id] = Resolution(
                    hold=hold, kind=Kind(row["kind"]), units=row["units_settled"], late=row["late"]
                )
        await self._lock_the_rest(connection, book)

    async def _lock_the_rest(self, connection: Connection, book: Book) -> None:
        """A hold that another replica opened under an id of ours since the first look brings accounts of its own."""
        wanted = {name for hold in book.holds.values() for name in hold.account_ids} - book.accounts.keys()
        if wanted:
            async for row in self._queries.lock_balances(connection, account_ids=list(wanted)):
                book.accounts[row["account_id"]] = account_from(row)

    async def _save(self, connection: Connection, book: Book, now_us: int) -> None:
        queries = self._queries
        if book.changed:
            await queries.write_balances(connection, **_balance_columns(list(book.changed.values())))
        if book.opened:
            await queries.open_holds(connection, **_hold_columns(list(book.opened.values())))
        if book.extended:
            extended = [hold for name, hold in book.extended.items() if name not in book.opened]
            await queries.extend_holds(
                connection,
                hold_ids=[hold.hold_id for hold in extended],
                lease_ends_at_ms=[hold.lease_ends_at_ms for hold in extended],
            )
        if book.closed:
            await queries.close_holds(connection, hold_ids=list(book.closed))
        if book.resolved:
            await queries.write_resolutions(connection, now_us=now_us, **_resolution_columns(book.resolved, now_us))


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
        window_ends_at_ms=row["window_ends_at_ms"],
        used=row["used"],
        held=row["held"],
        in_flight=row["in_flight"],
        requests_tat_us=row["requests_tat_us"],
    )


def _hold_from(row: asyncpg.Record, units: int, lease_ends_at_ms: int) -> Hold:
    return Hold(
        hold_id=str(row["hold_id"]),
        account_ids=tuple(row["account_ids"]),
        units=units,
        lease_ends_at_ms=lease_ends_at_ms,
        reserved_at_ms=row["reserved_at_ms"],
        request_id=row["request_id"],
        tenant_id=row["tenant_id"],
        key_id=row["key_id"],
    )


def _balance_columns(accounts: list[Account]) -> dict[str, list[Any]]:
    return {
        "account_ids": [account.account_id for account in accounts],
        "used": [account.used for account in accounts],
        "held": [account.held for account in accounts],
        "in_flight": [account.in_flight for account in accounts],
        "requests_tat_us": [account.requests_tat_us for account in accounts],
        "window_ends_at_ms": [account.window_ends_at_ms for account in accounts],
    }


def _hold_columns(holds: list[Hold]) -> dict[str, list[Any]]:
    return {
        "hold_ids": [hold.hold_id for hold in holds],
        "accounts": [",".join(hold.account_ids) for hold in holds],
        "units": [hold.units for hold in holds],
        "lease_ends_at_ms": [hold.lease_ends_at_ms for hold in holds],
        "reserved_at_ms": [hold.reserved_at_ms for hold in holds],
        "request_ids": [hold.request_id for hold in holds],
        "tenant_ids": [hold.tenant_id for hold in holds],
        "key_ids": [hold.key_id for hold in holds],
    }


def _resolution_columns(resolved: list[Resolution], now_us: int) -> dict[str, list[Any]]:
    holds = [resolution.hold for resolution in resolved]
    events = [_event(resolution, now_us) for resolution in resolved]
    return {
        "hold_ids": [hold.hold_id for hold in holds],
        "kinds": [resolution.kind.value for resolution in resolved],
        "late": [resolution.late for resolution in resolved],
        "accounts": [",".join(hold.account_ids) for hold in holds],
        "units_held": [hold.units for hold in holds],
        "units_settled": [resolution.units for resolution in resolved],
        "outcomes": [event.outcome for event in events],
        "providers": [event.provider for event in events],
        "models": [event.model for event in events],
        "voices": [event.voice for event in events],
        "provider_units": [event.provider_units for event in events],
        "reserved_at_ms": [hold.reserved_at_ms for hold in holds],
        "request_ids": [hold.request_id for hold in holds],
        "tenant_ids": [hold.tenant_id for hold in holds],
        "key_ids": [hold.key_id for hold in holds],
        "subjects": [_SUBJECTS[resolution.kind] for resolution in resolved],
        "event_ids": [new_uuid() for _ in resolved],
        "bodies": [msgspec.json.encode(event) for event in events],
    }


def _event(resolution: Resolution, now_us: int) -> HoldEvent:
    hold, settle = resolution.hold, resolution.settle
    return HoldEvent(
        hold_id=hold.hold_id,
        tenant_id=hold.tenant_id,
        key_id=hold.key_id,
        request_id=hold.request_id,
        accounts=hold.account_ids,
        units_held=hold.units,
        units_settled=resolution.units,
        at_ms=now_us // 1000,
        outcome=settle.outcome if settle else None,
        provider=settle.provider if settle else "",
        model=settle.model if settle else "",
        voice=settle.voice if settle else "",
        provider_units=settle.provider_units if settle else None,
        late=resolution.late,
    )
