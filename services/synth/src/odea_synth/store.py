"""The request log in PostgreSQL."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from odea_runtime.postgres import Database

if TYPE_CHECKING:
    from odea_synth.request_log import Ended


class RowsRefusedError(Exception):
    """The database is there and does not take these rows; it never will."""


class RequestStore:
    """Writes ended requests. Methods may raise `StorageUnavailableError`."""

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

    async def ensure_partitions(self) -> None:
        """Make the log's partitions for this month and the next."""
        async with self._database.connection() as connection:
            await self._queries.ensure_partitions(connection)
