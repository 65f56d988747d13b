"""The stream of events and its consumers are made once, however often it is asked for, and services wait for them."""

import asyncio

import nats.js.errors
import pytest
from structlog.testing import capture_logs

from integration.runtime.harness import open_bus
from odea_contracts.permissions import DURABLES
from odea_contracts.subjects import STREAM_EVENTS
from odea_runtime import jetstream
from odea_runtime.bus import Bus
from support.servers import NatsServer
from support.waiting import until


@pytest.fixture
async def fresh(breakable_nats: NatsServer) -> str:
    """A server without the stream."""
    async with open_bus(breakable_nats.url) as bus:
        await bus.client.jetstream().delete_stream(STREAM_EVENTS)
    return breakable_nats.url


async def consumers(bus: Bus) -> dict[str, str | None]:
    listed = await bus.client.jetstream().consumers_info(STREAM_EVENTS)
    return {info.name: info.config.filter_subject for info in listed}


async def test_ten_at_once_make_it_once(fresh: str) -> None:
    async with open_bus(fresh) as bus:
        results = await asyncio.gather(*(jetstream.apply(bus) for _ in range(10)), return_exceptions=True)
        # The server may turn some away while another makes it; asking again is all that it takes.
        assert not [r for r in results if isinstance(r, Exception) and not isinstance(r, nats.js.errors.APIError)]
        await jetstream.apply(bus)
        config = (await bus.client.jetstream().stream_info(STREAM_EVENTS)).config
        assert await consumers(bus) == dict(DURABLES)
    assert config.subjects == ["odea.v1.*.evt.>"]
    assert config.max_bytes
    assert config.max_age
    assert config.duplicate_window


async def test_what_is_there_is_brought_up_to_date_and_keeps_its_events(fresh: str) -> None:
    async with open_bus(fresh) as bus:
        manager = bus.client.jetstream()
        await manager.add_stream(name=STREAM_EVENTS, subjects=["odea.v1.keys.evt.>"])
        await manager.publish("odea.v1.keys.evt.issued", b"{}")
        await jetstream.apply(bus)
        info = await manager.stream_info(STREAM_EVENTS)
        assert (info.config.subjects, info.state.messages) == (["odea.v1.*.evt.>"], 1)
        assert (await manager.consumer_info(STREAM_EVENTS, "quota_keys")).num_pending == 1
        await jetstream.apply(bus)
        assert (await manager.stream_info(STREAM_EVENTS)).state.messages == 1


async def test_a_service_waits_for_it_and_says_so(fresh: str) -> None:
    async with open_bus(fresh) as bus:
        with capture_logs() as logs:
            waiting = asyncio.create_task(jetstream.until_applied(bus, *DURABLES))
            await until(lambda: [line.get("missing") for line in logs] == [STREAM_EVENTS])
            assert not waiting.done()
            await jetstream.apply(bus)
            async with asyncio.timeout(10):
                await waiting


async def test_a_consumer_that_is_missing_is_named(fresh: str) -> None:
    async with open_bus(fresh) as bus:
        await jetstream.apply(bus)
        await bus.client.jetstream().delete_consumer(STREAM_EVENTS, "quota_keys")
        with capture_logs() as logs:
            waiting = asyncio.create_task(jetstream.until_applied(bus, *DURABLES))
            await until(lambda: [line.get("missing") for line in logs] == ["quota_keys"])
            await jetstream.apply(bus)
            async with asyncio.timeout(10):
                await waiting
