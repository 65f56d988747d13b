"""PostgreSQL: a small bounded pool, named queries, and one error for "the storage is not there".

Every wait has a limit: for a connection, for a statement, for a lock, for an idle transaction. No network call but the
database's own belongs inside a transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from typing import Any, Final, TypeAlias

import aiosql
import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy
from prometheus_client import Counter, Gauge

from odea_runtime import tracing
from odea_runtime.bus import UnavailableError
from odea_runtime.settings import DatabaseSettings

Connection: TypeAlias = PoolConnectionProxy

_IN_USE = Gauge("odea_database_connections_in_use", "Connections that are doing something")
_MAX = Gauge("odea_database_connections_max", "Connections at most")
_UNAVAILABLE = Counter(
    "odea_database_unavailable_total", "Operations that failed because the storage was not there", ["kind"]
)

_TROUBLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)


class StorageUnavailableError(UnavailableError):
    """The database could not be asked, or did not answer in time. What was being written may or may not be there."""


class _PlainConnection(asyncpg.Connection):
    """A connection whose sessions hold no state to be reset: no cursors, no listeners, no settings.

    Resetting it all the same would be one more round trip at the end of every use. Whoever takes an advisory lock for a
    session gives it back.
    """

    def get_reset_query(self) -> str:
        """Nothing is sent; a transaction that is still open is rolled back by asyncpg itself."""
        return ""


class Database:
    """The pool and the named queries of one service.

    Args:
        settings: URL, size of the pool and time limits.
        package: the service's package; its `queries.sql` is loaded.
        schema: the service's own schema; unqualified names mean it.
    """

    def __init__(self, settings: DatabaseSettings, package: str, schema: str) -> None:
        self._settings = settings
        self._schema = schema
        self._pool: asyncpg.Pool | None = None
        self.queries: Final[Any] = aiosql.from_str((files(package) / "queries.sql").read_text(), "asyncpg")

    async def start(self) -> None:
        """Make the pool. Connections are opened when they are needed, so this works while the database is down."""
        tracing.trace_statements()
        timeout_ms = int(self._settings.database_timeout_s * 1000)
        _MAX.set(self._settings.database_pool_max)
        self._pool = await asyncpg.create_pool(
            self._settings.database_url.get_secret_value(),
            connection_class=_PlainConnection,
            min_size=0,
            max_size=self._settings.database_pool_max,
            timeout=self._settings.database_timeout_s,
            command_timeout=self._settings.database_timeout_s,
            max_inactive_connection_lifetime=300,
            server_settings={
                "application_name": f"odea-{self._schema}",
                "search_path": self._schema,
                "timezone": "UTC",
                "statement_timeout": str(timeout_ms),
                "lock_timeout": str(timeout_ms),
                "idle_in_transaction_session_timeout": str(2 * timeout_ms),
            },
        )

    async def stop(self) -> None:
        """Close the pool, giving up on connections that do not end in time."""
        if self._pool is None:
            return
        try:
            await self._close_in_time(self._pool)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection outside any transaction.

        Raises:
            StorageUnavailableError: there is none, or it broke, or a statement took too long.
        """
        assert self._pool is not None, "start() comes first"
        try:
            async with self._pool.acquire(timeout=self._settings.database_timeout_s) as connection:
                with _IN_USE.track_inprogress(), _given_up(connection):
                    yield connection
        except _TROUBLE as error:
            kind = type(error).__name__
            _UNAVAILABLE.labels(kind).inc()
            structlog.get_logger().warning("storage unavailable", kind=kind)
            raise StorageUnavailableError(kind) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """A connection inside a transaction that commits when the block ends well.

        Raises:
            StorageUnavailableError: as for `connection`; after this it is unknown whether the commit happened.
        """
        async with self.connection() as connection, transaction_on(connection):
            yield connection

    async def check(self) -> str | None:
        """For `/readyz`."""
        if self._pool is None:
            return "not started"
        try:
            async with self.connection() as connection:
                await connection.execute("SELECT 1")
        except StorageUnavailableError as error:
            return f"PostgreSQL is unavailable ({error})"
        return None

    async def _close_in_time(self, pool: asyncpg.Pool) -> None:
        async with asyncio.timeout(self._settings.database_timeout_s):
            await pool.close()


@asynccontextmanager
async def transaction_on(connection: Connection) -> AsyncGenerator[None]:
    """A transaction, or a part of the one that is under way, that commits when the block ends well."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except (TimeoutError, asyncio.CancelledError):
        # The connection is about to be dropped, and its transaction with it.
        raise
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


@contextmanager
def _given_up(connection: Connection) -> Generator[None]:
    """Drop a connection whose use ran out of time: it may be dead, and tidying it up would take as long again (P9).

    And one to a server that only reads now: after a failover another one writes, and only a new connection finds it.
    """
    try:
        yield
    except (TimeoutError, asyncio.CancelledError, asyncpg.ReadOnlySQLTransactionError):
        with suppress(asyncpg.InterfaceError):
            # It raises this where the connection has broken already.
            connection.terminate()
        raise
