"""Every event that was committed reaches the stream, once and in order, whatever dies in between (P2)."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from uuid import UUID

import aiosql
import nats.errors
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from integration.runtime.harness import open_bus
from integration.runtime.relay import Ledger, connected, count, count_stored, numbers, relaying, stored, terminate
from odea_contracts.subjects import STREAM_EVENTS
from odea_runtime import jetstream
from odea_runtime.bus import Bus
from odea_runtime.outbox import BATCH_MAX
from support.databases import Databases
from support.servers import NatsServer, PostgresServer
from support.waiting import until


@pytest.fixture(scope="module")
async def dsn(databases: Databases) -> str:
    return await databases.create("quota")


@pytest.fixture
async def ledger(dsn: str) -> Ledger:
    """An empty outbox; no relay is left from the test before."""
    async with connected(dsn) as connection:
        await connection.execute("TRUNCATE quota.outbox")
    return Ledger(dsn)


async def test_events_leave_once_and_in_order(nats_url: str, dsn: str, ledger: Ledger, bus: Bus) -> None:
    written = 3 * BATCH_MAX + 7
    await ledger.write(written)
    async with relaying(nats_url, dsn):
        await until(ledger.is_empty)
    assert await numbers(bus, ledger.subject) == list(range(written))


async def test_an_event_leaves_as_a_cloud_event(nats_url: str, dsn: str, ledger: Ledger, bus: Bus) -> None:
    await ledger.write(2)
    async with relaying(nats_url, dsn):
        await until(ledger.is_empty)
    first, second = await stored(bus, ledger.subject)
    headers = dict(first.headers or {})
    event_id = headers.pop("ce-id")
    assert str(UUID(event_id)) == event_id
    assert event_id != (second.headers or {})["ce-id"]
    at = datetime.fromisoformat(headers.pop("ce-time"))
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(minutes=1)
    assert headers == {
        "Nats-Msg-Id": f"odea/quota/{event_id}",
        "Nats-Expected-Stream": STREAM_EVENTS,
        "ce-specversion": "1.0",
        "ce-source": "odea/quota",
        "ce-type": ledger.subject,
        "content-type": "application/json",
    }


async def test_what_is_told_of_leaves_at_once(nats_url: str, dsn: str, ledger: Ledger, bus: Bus) -> None:
    """Otherwise it is found within a second or so."""
    async with relaying(nats_url, dsn) as outbox:
        await ledger.write(1)
        await until(ledger.is_empty)
        for told in range(2, 7):
            await ledger.write(1)
            began = time.perf_counter()
            outbox.wake()
            await until(lambda sent=told: has(bus, ledger, sent))
            assert time.perf_counter() - began < 0.5
        await ledger.write(1)
        await until(ledger.is_empty, within_s=3)


async def has(bus: Bus, ledger: Ledger, sent: int) -> bool:
    try:
        return await count_stored(bus, ledger.subject) >= sent
    except nats.errors.Error:
        # A server that has just come back may not know its streams yet.
        return False


async def test_a_relay_that_is_stopped_anywhere_loses_and_doubles_nothing(
    nats_url: str, dsn: str, ledger: Ledger, bus: Bus
) -> None:
    written, stops = 4 * BATCH_MAX, 0
    await ledger.write(written)
    while not await ledger.is_empty():
        async with relaying(nats_url, dsn):
            # Each time it is stopped a little later in its work.
            stops += 1
            with suppress(TimeoutError):
                await until(ledger.is_empty, within_s=0.01 * stops)
    assert stops > 2
    assert await numbers(bus, ledger.subject) == list(range(written))


async def test_a_death_between_hand_over_and_deletion_doubles_nothing(
    nats_url: str, dsn: str, ledger: Ledger, bus: Bus, databases: Databases
) -> None:
    """The stream knows what it has."""
    await ledger.write(50)
    async with connected(dsn) as blocker:
        async with blocker.transaction():
            # Reading goes on, deleting waits.
            await blocker.execute("LOCK TABLE quota.outbox IN SHARE MODE")
            async with relaying(nats_url, dsn):
                await until(lambda: has(bus, ledger, 50))
                killed = "application_name = 'odea-quota' AND wait_event_type = 'Lock' AND query LIKE '%DELETE%'"
                await until(lambda: was_killed(databases.admin(dsn), killed))
            async with relaying(nats_url, dsn):
                await until(lambda: was_killed(databases.admin(dsn), killed))
        assert await ledger.waiting() == 50
    await ledger.write(50)
    async with relaying(nats_url, dsn):
        await until(ledger.is_empty)
    assert await numbers(bus, ledger.subject) == list(range(100))


async def was_killed(admin_dsn: str, condition: str) -> bool:
    return await terminate(admin_dsn, condition) > 0


async def test_of_two_relays_one_leads_and_the_other_takes_over(
    nats_url: str, dsn: str, ledger: Ledger, bus: Bus, databases: Databases
) -> None:
    async with relaying(nats_url, dsn), relaying(nats_url, dsn):
        for round_ in range(1, 4):
            await ledger.write(300)
            await until(lambda sent=300 * round_: has(bus, ledger, sent))
            assert await leaders(dsn) == 1
            assert await terminate(
                databases.admin(dsn), "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
            )
        await until(ledger.is_empty)
    assert await leaders(dsn) == 0
    assert await numbers(bus, ledger.subject) == list(range(900))


async def leaders(dsn: str) -> int:
    locks = "FROM pg_locks JOIN pg_database ON oid = database WHERE datname = current_database()"
    return await count(dsn, f"SELECT count(*) {locks} AND locktype = 'advisory' AND granted")


async def test_a_relay_that_stops_makes_room_for_the_next(nats_url: str, dsn: str, ledger: Ledger, bus: Bus) -> None:
    async with relaying(nats_url, dsn):
        async with relaying(nats_url, dsn):
            await ledger.write(10)
            await until(ledger.is_empty)
        await ledger.write(10)
        await until(ledger.is_empty)
    assert await numbers(bus, ledger.subject) == list(range(20))


async def test_while_nats_is_away_events_wait(breakable_nats: NatsServer, dsn: str, ledger: Ledger) -> None:
    """P9: it heals without a restart."""
    url = breakable_nats.url
    async with relaying(url, dsn) as outbox, open_bus(url) as bus:
        await ledger.write(10)
        outbox.wake()
        await until(lambda: has(bus, ledger, 10))
        breakable_nats.kill()
        await ledger.write(300)
        outbox.wake()
        await until(lambda: shown("odea_outbox_waiting") >= 0)
        assert await ledger.waiting() >= 300
        breakable_nats.restart()
        await until(lambda: bus.connected)
        await until(ledger.is_empty)
        assert await numbers(bus, ledger.subject) == list(range(310))


def shown(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0


async def test_nats_may_die_in_the_middle_of_a_batch(breakable_nats: NatsServer, dsn: str, ledger: Ledger) -> None:
    """Once and in order also then, when some of a batch has arrived and some has not."""
    url, written = breakable_nats.url, 8 * BATCH_MAX
    async with relaying(url, dsn) as outbox, open_bus(url) as bus:
        await ledger.write(written)
        outbox.wake()
        for part in (2, 5):
            await until(lambda sent=part * BATCH_MAX: has(bus, ledger, sent))
            breakable_nats.kill()
            breakable_nats.restart()
            await until(lambda: bus.connected)
        await until(ledger.is_empty, within_s=20)
        assert await numbers(bus, ledger.subject) == list(range(written))


async def test_while_the_database_is_away_nothing_breaks(nats_url: str, breakable_postgres: PostgresServer) -> None:
    """P9."""
    dsn = await Databases(breakable_postgres.dsn).create("quota")
    ledger = Ledger(dsn)
    async with relaying(nats_url, dsn), open_bus(nats_url) as bus:
        await ledger.write(10)
        await until(ledger.is_empty)
        breakable_postgres.kill()
        breakable_postgres.restart()
        await ledger.write(10)
        await until(ledger.is_empty)
        assert await numbers(bus, ledger.subject) == list(range(20))


async def test_events_wait_for_a_stream_that_is_gone(breakable_nats: NatsServer, dsn: str, ledger: Ledger) -> None:
    url = breakable_nats.url
    async with relaying(url, dsn), open_bus(url) as bus:
        await bus.client.jetstream().delete_stream(STREAM_EVENTS)
        await ledger.write(10)
        with capture_logs() as logs:
            await until(lambda: any("there is no stream of events" in str(line) for line in logs))
        assert await ledger.waiting() == 10
        await jetstream.apply(bus)
        await until(ledger.is_empty)
        assert await numbers(bus, ledger.subject) == list(range(10))


async def test_a_long_outbox_is_looked_at_by_its_ends(dsn: str) -> None:
    """Counting millions would take longer than a statement may, and the relay would never get to send any."""
    waiting = 50_000
    lag: str = aiosql.from_str((files("odea_runtime") / "outbox.sql").read_text(), "asyncpg").outbox_lag.sql  # pyright: ignore[reportAttributeAccessIssue]
    async with connected(dsn) as connection:
        await connection.execute("SET search_path = quota; TRUNCATE quota.outbox")
        assert (await connection.fetchrow(lag) or {})["waiting"] == 0
        await connection.execute(
            "INSERT INTO quota.outbox (subject, event_id, source, body, created_at)"
            " SELECT 'odea.v1.test.evt.x', gen_random_uuid(), 'odea/test', '', clock_timestamp() - interval '1 h'"
            f" FROM generate_series(1, {waiting})"
        )
        found = await connection.fetchrow(lag)
        rows = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {lag}"))
        await connection.execute("TRUNCATE quota.outbox")
    assert found is not None
    assert found["waiting"] == waiting
    assert 3600 <= found["oldest_s"] < 3700
    assert "Seq Scan" not in rows, rows
