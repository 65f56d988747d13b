"""Storage trouble has one name and comes in time (P9), and no failure uses the pool up (P10)."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from prometheus_client import REGISTRY

from integration.runtime.proxy import proxied
from integration.runtime.relay import connected, count, terminate
from odea_runtime.bus import UnavailableError
from odea_runtime.postgres import Database, StorageUnavailableError
from odea_runtime.settings import DatabaseSettings, load
from support.databases import Databases
from support.servers import PostgresServer
from support.waiting import until

TIMEOUT_S = 0.5
MARGIN_S = 1.0
"""What a loaded machine may take beyond a timeout."""
POOL_MAX = 3
VICTIMS = "FROM pg_stat_activity WHERE application_name = 'odea-victim'"


@pytest.fixture(scope="module")
async def dsn(databases: Databases) -> str:
    return await databases.create("quota")


@asynccontextmanager
async def opened(dsn: str) -> AsyncGenerator[Database]:
    environ = {
        "ODEA_NATS_URL": "nats://unused",
        "ODEA_DATABASE_URL": dsn,
        "ODEA_DATABASE_POOL_MAX": str(POOL_MAX),
        "ODEA_DATABASE_TIMEOUT_S": str(TIMEOUT_S),
    }
    database = Database(load(DatabaseSettings, environ), "odea_quota", "quota")
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.fixture
async def database(dsn: str) -> AsyncGenerator[Database]:
    async with opened(dsn) as database:
        yield database


async def ask(database: Database, statement: str = "SELECT 1") -> object:
    async with database.connection() as connection:
        found: object = await connection.fetchval(statement)
    return found


async def ask_in_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("SELECT 1")


async def fails_in_time(work: Awaitable[object], within_s: float = TIMEOUT_S) -> None:
    """Expect `StorageUnavailableError`, with nothing of the driver's text in it, within the time."""
    began = time.perf_counter()
    with pytest.raises(StorageUnavailableError) as caught:
        await work
    assert time.perf_counter() - began < within_s + MARGIN_S
    assert str(caught.value).isidentifier()


@asynccontextmanager
async def all_in_use(database: Database) -> AsyncGenerator[None]:
    """Every connection of the pool is taken."""
    go, taken = asyncio.Event(), asyncio.Semaphore(0)

    async def hold() -> None:
        async with database.connection() as connection:
            await connection.fetchval("SELECT 1")
            taken.release()
            await go.wait()

    holders = [asyncio.create_task(hold()) for _ in range(POOL_MAX)]
    for _ in holders:
        await taken.acquire()
    try:
        yield
    finally:
        go.set()
        await asyncio.gather(*holders)


async def test_the_schema_is_the_services_own_and_times_are_utc(database: Database) -> None:
    assert await ask(database, "SELECT current_schema()") == "quota"
    assert await ask(database, "SHOW timezone") == "UTC"
    assert await ask(database, "SHOW application_name") == "odea-quota"


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"])
async def test_every_wait_of_the_server_has_a_limit(database: Database, limit: str) -> None:
    """P10."""
    milliseconds = await ask(database, f"SELECT setting::int FROM pg_settings WHERE name = '{limit}'")
    assert isinstance(milliseconds, int)
    assert 0 < milliseconds <= 2 * TIMEOUT_S * 1000


async def test_storage_trouble_is_what_handlers_answer_as_unavailable() -> None:
    assert issubclass(StorageUnavailableError, UnavailableError)


async def test_a_statement_that_takes_too_long_is_trouble_and_the_next_one_is_not(database: Database) -> None:
    """P9."""
    await fails_in_time(ask(database, "SELECT pg_sleep(60)"))
    assert await ask(database) == 1


async def test_a_lock_that_is_not_had_is_trouble(database: Database, dsn: str) -> None:
    """P9."""
    async with connected(dsn) as other, other.transaction():
        await other.execute("LOCK TABLE quota.outbox")
        await fails_in_time(ask(database, "SELECT count(*) FROM outbox"))
    assert await ask(database, "SELECT count(*) FROM outbox") == 0


async def test_a_pool_that_is_used_up_is_waited_for_but_not_for_long(database: Database) -> None:
    """P10."""
    async with all_in_use(database):
        await fails_in_time(ask(database))
        waiting = asyncio.create_task(ask(database))
    assert await waiting == 1


async def test_our_own_errors_go_through_as_they_are(database: Database) -> None:
    """Not every failure is an outage: a violated constraint is an outcome, a bug is a bug."""
    with pytest.raises(asyncpg.UniqueViolationError):
        await ask(database, "DO $$ BEGIN RAISE unique_violation; END $$")
    with pytest.raises(asyncpg.UndefinedTableError):
        await ask(database, "SELECT * FROM nothing")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction():
            raise ZeroDivisionError


async def test_a_transaction_that_fails_leaves_nothing(database: Database, dsn: str) -> None:
    async def write_and_fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO outbox (subject, event_id, source, body) VALUES ('s', gen_random_uuid(), 's', '')"
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    assert await count(dsn, "SELECT count(*) FROM quota.outbox") == 0


@pytest.mark.parametrize("broken", [False, True], ids=["sound", "broken"])
@pytest.mark.parametrize("way", ["connection", "transaction"])
async def test_a_cancellation_stays_one(
    database: Database, databases: Databases, dsn: str, way: str, broken: bool
) -> None:
    """A shutdown is not taken for an outage, also when the connection breaks before or after it."""
    entered = asyncio.Event()

    async def work() -> None:
        async with database.transaction() if way == "transaction" else database.connection() as connection:
            await connection.execute("SET application_name = 'odea-victim'")
            entered.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await entered.wait()
    if broken:
        await terminate(databases.admin(dsn), "application_name = 'odea-victim'")
        await until(lambda: holds(databases.admin(dsn), f"SELECT count(*) {VICTIMS}", 0))
    working.cancel()
    async with asyncio.timeout(TIMEOUT_S + MARGIN_S):
        await asyncio.wait([working])
    assert working.cancelled()
    assert await ask(database) == 1


async def test_nothing_leaks_however_operations_end(database: Database, databases: Databases, dsn: str) -> None:
    """P10: after two hundred that failed or were cancelled anywhere, the pool is as good as new."""
    statements = ("SELECT 1", "SELECT pg_sleep(0.02)", "SELECT 1 / 0", "SELECT pg_terminate_backend(pg_backend_pid())")
    chance = random.Random(11)

    async def operate(statement: str) -> None:
        async with database.transaction() as connection:
            await connection.fetchval(statement)
            if chance.random() < 0.3:
                raise ValueError(statement)

    async def cancelled_somewhere(statement: str) -> None:
        operation = asyncio.create_task(operate(statement))
        await asyncio.wait([operation], timeout=chance.random() * 0.03)
        operation.cancel()
        await asyncio.wait([operation])

    for _ in range(20):
        work = [cancelled_somewhere(chance.choice(statements)) for _ in range(6)]
        work += [operate(chance.choice(statements)) for _ in range(4)]
        await asyncio.gather(*work, return_exceptions=True)
    async with all_in_use(database):
        ours = "FROM pg_stat_activity WHERE application_name = 'odea-quota' AND datname = current_database()"
        await until(lambda: holds(databases.admin(dsn), f"SELECT count(*) {ours}", POOL_MAX))
    assert REGISTRY.get_sample_value("odea_database_connections_in_use") == 0


async def holds(dsn: str, query: str, expected: int) -> bool:
    return await count(dsn, query) == expected


async def test_ready_says_what_is_wrong(database: Database) -> None:
    assert await database.check() is None
    async with all_in_use(database):
        trouble = await database.check()
    assert trouble is not None
    assert trouble.startswith("PostgreSQL is unavailable")


class TestWithoutPostgres:
    """The server dies, or does not answer (P9)."""

    async def test_what_is_under_way_fails_in_time_and_all_heals(self, breakable_postgres: PostgresServer) -> None:
        async with opened(breakable_postgres.dsn) as database:
            under_way = asyncio.create_task(ask(database, "SELECT pg_sleep(60)"))
            idle = [ask(database) for _ in range(POOL_MAX - 1)]
            assert await asyncio.gather(*idle) == [1, 1]
            breakable_postgres.kill()
            await fails_in_time(under_way)
            for _ in range(POOL_MAX + 1):
                await fails_in_time(ask(database))
            assert await database.check() is not None
            breakable_postgres.restart()
            assert await asyncio.gather(*(ask(database) for _ in range(10))) == [1] * 10
            assert await database.check() is None

    async def test_a_service_starts_without_it(self, breakable_postgres: PostgresServer) -> None:
        dsn = breakable_postgres.dsn
        breakable_postgres.stop()
        async with opened(dsn) as database:
            await fails_in_time(ask(database))
            breakable_postgres.restart()
            assert await ask(database) == 1

    async def test_one_that_falls_silent_is_trouble_in_time(self, dsn: str) -> None:
        """A cut network: the connection stands, and nothing comes any more."""
        async with proxied(dsn) as proxy, opened(proxy.url) as database:
            assert await asyncio.gather(*(ask(database) for _ in range(POOL_MAX))) == [1] * POOL_MAX
            proxy.fall_silent()
            began = time.perf_counter()
            for _ in range(POOL_MAX):
                await fails_in_time(ask(database))
                await fails_in_time(ask_in_transaction(database))
            # Waiting twice, for the answer and for the tidying up, would take twice as long.
            assert time.perf_counter() - began < 2 * POOL_MAX * TIMEOUT_S * 1.5


async def test_a_transaction_that_was_left_open_too_long_is_trouble_with_the_storage(database: Database) -> None:
    """The server ends the session; whoever comes back to it did not fail by its own statement."""

    async def come_back_late() -> None:
        async with database.transaction() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")

            async def is_gone() -> bool:
                async with database.connection() as other:
                    return not await other.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)

            await until(is_gone)
            await connection.execute("SELECT 1")

    await fails_in_time(come_back_late(), 2 * TIMEOUT_S + MARGIN_S)
    assert await ask(database) == 1


async def test_a_server_that_only_reads_is_trouble_and_is_left(databases: Databases) -> None:
    """As after a failover, when the old primary is a standby: its connections must not come back from the pool."""
    dsn = await databases.create("quota")
    async with connected(databases.admin(dsn)) as admin, opened(dsn) as database:
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        assert await ask(database) == 1
        await fails_in_time(ask(database, "CREATE TABLE quota.more (id int)"))
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        assert await ask(database, "CREATE TABLE quota.more (id int)") is None
