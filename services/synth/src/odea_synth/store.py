"""The request log in PostgreSQL."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import structlog

from odea_contracts.requests import LoggedRequest, RequestsList, RequestsPage
from odea_runtime.postgres import Connection, Database

if TYPE_CHECKING:
    from odea_synth.request_log import Ended


class RowsRefusedError(Exception):
    """The database is there and does not take these rows; it never will."""


class RequestStore:
    """Writes and reads ended requests. Methods may raise `StorageUnavailableError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = database.queries

    async def write(self, batch: "Sequence[Ended]") -> None:
        """Write a batch; rows that are there already are left alone, so repeating it does no harm.

        Raises:
            RowsRefusedError: at least one of them does not fit; none was written.
        """
        columns = {name: [getattr(ended, name) for ended in batch] for name in batch[0].__struct_fields__}
        async with self._database.connection() as connection:
            try:
                await self._queries.write_requests(connection, **columns)
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                raise RowsRefusedError(type(error).__name__) from error

    async def page(self, request: RequestsList, looked_max: int) -> RequestsPage:
        """The entries that `request` asks for, among at most `looked_max`."""
        async with self._database.connection() as connection:
            rows = await self._find(connection, request, looked_max)
        limit = request.limit
        found = [row for row in rows if row["id"] is not None]
        requests = tuple(_to_logged(row) for row in found[:limit])
        if len(found) > limit:
            return RequestsPage(
                requests=requests, next_cursor=_cursor(found[limit - 1]["at_us"], found[limit - 1]["id"])
            )
        if rows and rows[0]["looked"] == looked_max:
            return RequestsPage(requests=requests, next_cursor=_cursor(rows[0]["last_us"], rows[0]["last_id"]))
        return RequestsPage(requests=requests)

    async def _find(self, connection: Connection, request: RequestsList, looked_max: int) -> list[asyncpg.Record]:
        after_us, _, after_id = request.cursor.partition("_") if request.cursor else (None, "", None)
        given = msgspec.structs.asdict(request) | {
            "after_us": after_us and int(after_us),
            "after_id": after_id,
            "looked_max": looked_max,
            "limit": request.limit + 1,
        }
        # A query for each index: one for all of them would be planned for none.
        if request.request_id is not None:
            query, unused = self._queries.requests_by_request_id, {"cursor"}
        elif request.tenant_id is not None:
            query, unused = self._queries.requests_of_tenant, {"cursor", "request_id"}
        else:
            query, unused = self._queries.requests_of_all, {"cursor", "request_id", "tenant_id"}
        return [row async for row in query(connection, **{name: given[name] for name in given.keys() - unused})]

    async def drop_partitions(self, retention_days: int) -> None:
        """Forget the months that ended `retention_days` ago. Many replicas may do so at once."""
        async with self._database.connection() as connection:
            dropped = await self._queries.drop_partitions(connection, retention_days=retention_days)
        if dropped:
            structlog.get_logger().info("months of the request log were dropped", months=dropped)

    async def ensure_partitions(self) -> None:
        """Make the log's partitions for this month and the next three."""
        async with self._database.connection() as connection:
            await self._queries.ensure_partitions(connection)


def _to_logged(row: asyncpg.Record) -> LoggedRequest:
    return msgspec.convert({**row, "id": str(row["id"]), "received_at_ms": row["at_us"] // 1000}, LoggedRequest)


def _cursor(at_us: int, row_id: object) -> str:
    return f"{at_us}_{row_id}"
