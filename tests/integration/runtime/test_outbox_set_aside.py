"""An event that the bus does not take, for its size, keeps no other from leaving, and is not lost (P2, P10)."""

from typing import Final

import pytest
from nats.js.api import StreamConfig
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from integration.runtime.harness import open_bus
from integration.runtime.relay import Ledger, connected, count, numbers, relaying, stored
from odea_contracts.subjects import STREAM_EVENTS, SUBJECTS_EVENTS
from odea_runtime.bus import Bus
from support.databases import Databases
from support.servers import NatsServer
from support.waiting import until

MAX_PAYLOAD: Final = 1024 * 1024
"""The server's own limit unless it is told another."""
INSERT: Final = """
INSERT INTO quota.outbox (subject, event_id, source, body)
VALUES ($1, gen_random_uuid(), 'odea/quota', convert_to(repeat('0', $2), 'UTF8'))
"""
PUT_BACK: Final = """
WITH back AS (DELETE FROM quota.outbox_set_aside RETURNING *)
INSERT INTO quota.outbox (subject, event_id, source, body, created_at)
SELECT subject, event_id, source, body, created_at FROM back
"""
"""As in the runbook."""
LOG: Final = "an event is too large for the bus and was set aside"


@pytest.fixture(scope="module")
async def dsn(databases: Databases) -> str:
    return await databases.create("quota")


@pytest.fixture
async def ledger(dsn: str) -> Ledger:
    async with connected(dsn) as connection:
        await connection.execute("TRUNCATE quota.outbox, quota.outbox_set_aside")
    return Ledger(dsn)


async def write_large(dsn: str, ledger: Ledger, size_bytes: int) -> None:
    async with connected(dsn) as connection:
        await connection.execute(INSERT, ledger.subject, size_bytes)


async def set_aside(dsn: str) -> int:
    return await count(dsn, "SELECT count(*) FROM quota.outbox_set_aside")


@pytest.mark.parametrize("size_bytes", [MAX_PAYLOAD + 1, MAX_PAYLOAD], ids=["by its body", "by its headers"])
async def test_it_is_set_aside_and_the_others_leave(
    nats_url: str, dsn: str, ledger: Ledger, bus: Bus, size_bytes: int
) -> None:
    await ledger.write(3)
    await write_large(dsn, ledger, size_bytes)
    await ledger.write(3)
    with capture_logs() as logs:
        async with relaying(nats_url, dsn) as outbox:
            await until(ledger.is_empty)
            assert await set_aside(dsn) == 1
            outbox.wake()
            await until(lambda: REGISTRY.get_sample_value("odea_outbox_set_aside") == 1)
    assert await numbers(bus, ledger.subject) == list(range(6))
    assert [(line["subject"], line["size_bytes"]) for line in logs if line["event"] == LOG] == [
        (ledger.subject, size_bytes)
    ]
    assert "lost the connection to NATS" not in {line["event"] for line in logs}


async def test_one_alone_holds_nothing_up(nats_url: str, dsn: str, ledger: Ledger, bus: Bus) -> None:
    await write_large(dsn, ledger, MAX_PAYLOAD)
    async with relaying(nats_url, dsn):
        await until(ledger.is_empty)
        await ledger.write(1)
        await until(ledger.is_empty)
    assert await set_aside(dsn) == 1
    assert await numbers(bus, ledger.subject) == [0]


async def test_one_that_the_stream_refuses_is_set_aside_and_can_be_put_back(
    breakable_nats: NatsServer, dsn: str, ledger: Ledger
) -> None:
    """Under the id that it had: whoever got it after all is not told twice."""
    async with open_bus(breakable_nats.url) as bus:
        jetstream = bus.client.jetstream()
        narrow = StreamConfig(name=STREAM_EVENTS, subjects=[SUBJECTS_EVENTS], max_msg_size=2_000)
        await jetstream.update_stream(narrow)
        await ledger.write(3)
        await write_large(dsn, ledger, 5_000)
        await ledger.write(3)
        async with relaying(breakable_nats.url, dsn):
            await until(ledger.is_empty)
            assert await numbers(bus, ledger.subject) == list(range(6))
            assert await set_aside(dsn) == 1
            event_id = await event_id_of_the_only(dsn)
            await jetstream.update_stream(StreamConfig(name=STREAM_EVENTS, subjects=[SUBJECTS_EVENTS]))
            async with connected(dsn) as connection:
                await connection.execute(PUT_BACK)
            await until(ledger.is_empty)
        late = (await stored(bus, ledger.subject))[-1]
        assert len(late.data or b"") == 5_000
        assert (late.headers or {})["ce-id"] == event_id
        assert await set_aside(dsn) == 0


async def event_id_of_the_only(dsn: str) -> str:
    async with connected(dsn) as connection:
        return str(await connection.fetchval("SELECT event_id FROM quota.outbox_set_aside"))
