"""A server that takes nothing and says nothing, though its connection stands: all waits end, and it heals (P9, P10)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from typing import Final

import pytest

from integration.runtime.harness import ASK, Ask, AskReply, Told, echo, open_bus, open_hall
from integration.runtime.proxy import Proxy, proxied
from integration.runtime.studio import HEAD, IMPATIENT, SPEAK, ask_body, end_of, open_studio, was_cancelled
from odea_contracts.bundles import HEADER_BUNDLES_TO
from odea_contracts.subjects import streams_prefix
from odea_contracts.synth import FRAME_BYTES_MAX
from odea_runtime.bus import Bus, BusError, CallTimeoutError
from odea_runtime.publishing import NotStoredError, Outgoing, Publisher
from odea_runtime.streams import OutgoingStream
from support.waiting import until

LIMIT_S: Final = 0.3
MARGIN_S: Final = 1.0
"""What a loaded machine may take beyond a time limit."""
ROOM_S: Final = 2.0
"""How long nats-py waits for room in its buffer."""


@pytest.fixture
async def way(nats_url: str) -> AsyncGenerator[Proxy]:
    async with proxied(nats_url) as proxy:
        yield proxy
        proxy.heal()


async def fill(bus: Bus) -> None:
    """Send until nothing more is taken: the sockets are full, and so is what waits to be written."""
    piece = bytes(64 * 1024)
    while bus.has_room(len(piece) + 4096):
        await bus.client.publish("odea.v1.hall.filler", piece)
        await asyncio.sleep(0)
    last = asyncio.create_task(bus.client.publish("odea.v1.hall.filler", bytes(2 * len(piece))))
    await until(lambda: not bus.has_room(0))
    assert not last.done()


async def took_s(work: Awaitable[object], error: type[Exception]) -> float:
    began = time.perf_counter()
    with pytest.raises(error):
        await work
    return time.perf_counter() - began


async def test_a_call_ends_in_its_time_when_there_is_no_room_for_it(nats_url: str, way: Proxy) -> None:
    async with open_hall(nats_url, echo), open_bus(way.url) as bus:
        way.cut()
        await fill(bus)
        assert await took_s(bus.call(ASK, Ask(text="x"), timeout_s=LIMIT_S), CallTimeoutError) < LIMIT_S + MARGIN_S
        way.heal()
        await until(lambda: is_answered(bus), within_s=20)


async def is_answered(bus: Bus) -> bool:
    try:
        return await bus.call(ASK, Ask(text="there?")) == Told(text="there?")
    except BusError:
        return False


async def test_so_does_a_notice(way: Proxy) -> None:
    async with open_bus(way.url, call_timeout_s=LIMIT_S) as bus:
        way.cut()
        await fill(bus)
        assert await took_s(bus.publish("odea.v1.hall.news", Told(text="x")), CallTimeoutError) < LIMIT_S + MARGIN_S
        way.heal()


async def test_so_does_a_batch_for_the_stream(way: Proxy) -> None:
    """Not each of its messages apart."""
    async with open_bus(way.url) as bus:
        publisher = Publisher(bus.client, ack_s=LIMIT_S)
        batch = [Outgoing("odea.v1.hall.evt.filled", b"{}", {}) for _ in range(5)]
        way.cut()
        await fill(bus)
        assert await took_s(publisher.publish(batch), NotStoredError) < LIMIT_S + 2 * ROOM_S + MARGIN_S
        way.heal()


async def test_a_stop_does_not_wait_for_it(way: Proxy) -> None:
    """With as many endpoints as a service has, and with much that was not taken."""
    others = {f"other_{number}": echo for number in range(15)}
    async with open_hall(way.url, echo, **others) as hall:
        way.cut()
        await fill(hall.bus)
        began = time.perf_counter()
        await hall.bus.stop()
        assert time.perf_counter() - began < 15
        way.heal()


async def test_who_leaves_meanwhile_is_not_made_deaf(nats_url: str, way: Proxy) -> None:
    """The pongs that come late are for nobody, and reading goes on: what is in hand is still answered."""
    async with open_hall(nats_url, echo), open_bus(way.url) as bus:

        async def ignore(_: object) -> None: ...

        subscription = await bus.client.subscribe("odea.v1.hall.news", cb=ignore)
        await bus.round_trip()
        way.cut()
        await bus.leave(subscription)
        way.heal()
        await bus.round_trip()
        assert await bus.check() is None
        assert await is_answered(bus)


async def test_requests_that_have_arrived_are_answered_before_the_end(nats_url: str) -> None:
    go = asyncio.Event()
    entered = asyncio.Event()

    async def wait(ask: Ask) -> AskReply:
        entered.set()
        await go.wait()
        return Told(text=ask.text)

    async with open_bus(nats_url) as bus, open_hall(nats_url, wait) as hall:
        asking = asyncio.create_task(bus.call(ASK, Ask(text="x"), timeout_s=10))
        await entered.wait()
        await hall.bus.stop_serving()
        go.set()
        await hall.tasks.drain(5)
        await hall.bus.stop()
        assert await asking == Told(text="x")


async def test_signs_of_life_do_not_wait_for_room_one_by_one(nats_url: str, way: Proxy) -> None:
    """The silence of all the others would be noticed only after that."""
    many = 6

    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        await asyncio.Event().wait()

    async with open_studio(way.url, play, **IMPATIENT) as studio, open_bus(nats_url) as third:
        for number in range(many):
            await third.client.publish(SPEAK, ask_body(), reply=f"{streams_prefix('tests')}.x.{number}")
        await until(lambda: len(studio.performers) == many)
        way.cut()
        await fill(studio.bus)
        async with asyncio.timeout(IMPATIENT["stream_silence_s"] + 2 * ROOM_S + MARGIN_S):
            for _ in range(many):
                assert was_cancelled(await end_of(studio, 10), None)
        way.heal()


async def test_streams_make_nothing_that_can_not_leave(nats_url: str, way: Proxy) -> None:
    """P10: each has one frame in hand, bundled or not, and goes on when there is room again."""
    many, window, made, go = 20, 16, 0, asyncio.Event()

    async def play(stream: OutgoingStream, _: Ask) -> None:
        nonlocal made
        await go.wait()
        await stream.head(HEAD)
        while True:
            made += 1
            await stream.audio(bytes(FRAME_BYTES_MAX))

    async with open_studio(way.url, play, stream_window_frames=window) as studio, open_bus(nats_url) as third:
        for number in range(many):
            inbox = f"{streams_prefix('tests')}.x.{number}"
            headers = {HEADER_BUNDLES_TO: f"{streams_prefix('tests')}.x.bundles"} if number % 2 else None
            await third.client.publish(SPEAK, ask_body(), reply=inbox, headers=headers)
        await until(lambda: len(studio.performers) == many)
        way.cut()
        await fill(studio.bus)
        go.set()
        await asyncio.sleep(0.5)
        assert made <= many
        way.heal()
        # And one more each, that waits for credit.
        await until(lambda: made == many * (window + 1))
