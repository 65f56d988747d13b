"""The audit of a service: a row for each change, written in its transaction, read in pages and never changed."""

from importlib.resources import files
from typing import Any, Final

import aiosql
import asyncpg
import msgspec
import structlog

from odea_contracts.audit import AuditAction, AuditDetail, AuditEntry, AuditList, AuditPage, AuditPageReply
from odea_contracts.base import Change
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.plans import PlanSet
from odea_runtime.cursors import ListKind, read_cursor, write_cursor
from odea_runtime.postgres import Connection, Database

NOTHING: Final = AuditDetail()
BAD_CURSOR: Final = failure(ErrorCode.INVALID_VALUE, "No page of this list gave this cursor.", param="cursor")
PAGE_BYTES_MAX: Final = 400_000
"""Of the details on a page: the rest fits beside them into a message of the bus."""


class AuditLog:
    """The table `audit` in the service's own schema.

    Args:
        database: where it is read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries: Any = aiosql.from_str((files("odea_runtime") / "audit.sql").read_text(), "asyncpg")

    async def record(
        self,
        connection: Connection,
        action: AuditAction,
        change: Change | PlanSet,
        *,
        tenant_id: str | None,
        key_id: str | None = None,
        detail: AuditDetail = NOTHING,
    ) -> None:
        """Add a row, in the transaction that `connection` is in."""
        await self._queries.add_audit(
            connection,
            actor=change.actor,
            origin=change.origin,
            action=action.value,
            tenant_id=tenant_id,
            key_id=key_id,
            request_id=structlog.contextvars.get_contextvars().get("request_id"),
            detail=msgspec.json.encode(detail).decode(),
        )

    async def page(self, request: AuditList) -> AuditPageReply:
        """Some changes, newest first.

        Raises:
            StorageUnavailableError: the database could not be asked.
        """
        try:
            row = read_cursor(ListKind.AUDIT, request.cursor)
        except ValueError:
            return BAD_CURSOR
        async with self._database.connection() as connection:
            found = self._queries.audit_before(
                connection,
                tenant_id=request.tenant_id,
                key_id=request.key_id,
                before=None if row is None else int(row),
                limit=request.limit + 1,
                bytes_max=PAGE_BYTES_MAX,
            )
            rows = [row async for row in found]
        return _page(rows, request.limit)


def _page(rows: list[asyncpg.Record], limit: int) -> AuditPage:
    shown = rows[:limit]
    more = bool(rows) and rows[0]["known"] > len(shown)
    # A page begins behind the number after its first row's, which no earlier page needs to have shown.
    places = [shown[0]["audit_id"] + 1, *(row["audit_id"] for row in shown)] if shown else []
    cursors = tuple(write_cursor(ListKind.AUDIT, str(place)) for place in places)
    return AuditPage(
        entries=tuple(_entry(row) for row in shown), next_cursor=cursors[-1] if more else None, cursors=cursors
    )


def _entry(row: asyncpg.Record) -> AuditEntry:
    detail = msgspec.json.decode(row["detail"], type=AuditDetail)
    return msgspec.convert({**dict(row), "detail": detail}, AuditEntry)
