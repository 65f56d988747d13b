"""NATS goes away and comes back: calls fail in time, and all heals without a restart (P9)."""

import asyncio
import time
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from integration.runtime.harness import ASK, Ask, AskReply, Told, echo, open_bus, open_hall, settings_for
from odea_runtime.bus import Bus, BusError, CallTimeoutError, DisconnectedError, NoRespondersError
from support.servers import NatsServer
from support.waiting import until

TIMEOUT_S = 0.3
MARGIN_S = 0.5
"""What a loaded machine may take beyond a timeout."""


async def timed(call: object) -> tuple[object, float]:
    """How a call ended, and when."""
    began = time.perf_counter()
    try:
        end: object = await call  # pyright: ignore[reportGeneralTypeIssues]
    except BusError as error:
        end = error
    return end, time.perf_counter() - began


async def answers(bus: Bus) -> bool:
    try:
        return await bus.call(ASK, Ask(text="x")) == Told(text="x")
    except BusError:
        return False


async def test_calls_fail_in_time_and_all_heals_by_itself(breakable_nats: NatsServer) -> None:
    url, told = breakable_nats.url, list[str]()
    entered = asyncio.Event()

    async def handler(ask: Ask) -> AskReply:
        if ask.text == "hang":
            entered.set()
            await asyncio.Event().wait()
        return Told(text=ask.text)

    with capture_logs() as logged:
        async with open_hall(url, handler), open_bus(url) as bus:
            bus.on_lost(lambda: told.append("lost"))
            bus.on_back(lambda: told.append("back"))
            assert await bus.check() is None
            under_way = asyncio.create_task(timed(bus.call(ASK, Ask(text="hang"), timeout_s=TIMEOUT_S)))
            await entered.wait()

            breakable_nats.kill()
            error, took_s = await under_way
            assert isinstance(error, (CallTimeoutError, DisconnectedError))
            assert took_s < TIMEOUT_S + MARGIN_S
            await until(lambda: not bus.connected)
            error, took_s = await timed(bus.call(ASK, Ask(text="x")))
            assert isinstance(error, DisconnectedError)
            assert took_s < MARGIN_S
            with pytest.raises(DisconnectedError):
                await bus.publish(ASK.subject, Told(text="x"))
            assert await bus.check() == "not connected to NATS"
            assert told == ["lost"]

            breakable_nats.restart()
            await until(lambda: bus.connected and told == ["lost", "back"])
            await until(lambda: answers(bus))
            assert await bus.check() is None
    password = urlsplit(url).password
    assert password
    assert password not in repr(logged)


async def test_a_start_waits_for_it(breakable_nats: NatsServer) -> None:
    breakable_nats.kill()
    bus = Bus(settings_for(breakable_nats.url), "tests")
    starting = asyncio.create_task(bus.start())
    await asyncio.wait([starting], timeout=0.6)
    assert not starting.done()
    assert not bus.connected
    with pytest.raises(DisconnectedError):
        await bus.call(ASK, Ask(text="x"))
    breakable_nats.restart()
    async with asyncio.timeout(10):
        await starting
    with pytest.raises(NoRespondersError):
        await bus.call(ASK, Ask(text="x"))
    await bus.stop()


async def test_a_stop_does_not_wait_for_it(breakable_nats: NatsServer) -> None:
    """P10: with as many endpoints as a service has."""
    others = {f"other_{number}": echo for number in range(15)}
    async with open_hall(breakable_nats.url, echo, **others) as hall:
        breakable_nats.kill()
        await until(lambda: not hall.bus.connected)
        _, took_s = await timed(hall.bus.stop())
        assert took_s < 3


async def test_a_start_can_be_given_up(breakable_nats: NatsServer) -> None:
    breakable_nats.kill()
    bus = Bus(settings_for(breakable_nats.url), "tests")
    starting = asyncio.create_task(bus.start())
    await asyncio.wait([starting], timeout=0.3)
    starting.cancel()
    await asyncio.wait([starting], timeout=3)
    assert starting.cancelled()
    async with asyncio.timeout(3):
        await bus.stop()
