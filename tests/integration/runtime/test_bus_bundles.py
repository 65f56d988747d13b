"""Calls of the same moment leave in one message, and each is answered as if it had been alone (P7, P9, P10)."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from nats.aio.msg import Msg

from integration.runtime.harness import (
    ASK,
    Ask,
    AskReply,
    Told,
    at_once,
    echo,
    open_bus,
    open_hall,
    told,
)
from odea_contracts.bundles import BundledReply, ReplyBundle, RequestBundle
from odea_contracts.errors import ErrorCode, failure
from odea_runtime.bus import Bus, CallTimeoutError, NoRespondersError
from support.waiting import until


class Wire:
    """What a third party sees go by: how many requests each message has, and how many replies."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answered: list[int] = []

    async def watch(self, bus: Bus) -> None:
        await bus.client.subscribe(ASK.subject, cb=self._see_request)
        await bus.client.subscribe("_INBOX_tests.>", cb=self._see_reply)
        await bus.round_trip()

    async def _see_request(self, message: Msg) -> None:
        self.asked.append(_parts(message, RequestBundle))

    async def _see_reply(self, message: Msg) -> None:
        self.answered.append(_parts(message, ReplyBundle))


def _parts(message: Msg, of: Any) -> int:
    """How many; 1 for what is no bundle."""
    return len(msgspec.json.decode(message.data, type=of)) if message.data.startswith(b"[") else 1


@pytest.fixture
async def wire(nats_url: str) -> AsyncGenerator[Wire]:
    seen = Wire()
    async with open_bus(nats_url, service="third") as third:
        await seen.watch(third)
        yield seen


async def test_calls_of_one_moment_are_one_message_and_so_are_their_replies(
    nats_url: str, bus: Bus, wire: Wire
) -> None:
    async with open_hall(nats_url, echo):
        assert await at_once(bus, 40) == told(40)
        await until(lambda: sum(wire.answered) == 40)
    assert wire.asked == [40]
    assert wire.answered == [40]


async def test_one_alone_is_a_message_as_ever(nats_url: str, bus: Bus, wire: Wire) -> None:
    async with open_hall(nats_url, echo):
        assert await at_once(bus, 1) == told(1)
        await until(lambda: wire.answered == [1])
    assert wire.asked == [1]


@pytest.mark.parametrize(("most", "asked"), [(1, [1] * 7), (3, [1, 3, 3]), (7, [7]), (100, [7])])
async def test_no_bundle_is_larger_than_the_setting(nats_url: str, wire: Wire, most: int, asked: list[int]) -> None:
    """P10."""
    async with open_hall(nats_url, echo), open_bus(nats_url, bundle_max=most) as bus:
        assert await at_once(bus, 7) == told(7)
        await until(lambda: sum(wire.asked) == 7)
    assert sorted(wire.asked) == asked


async def test_large_requests_are_not_too_large_together(nats_url: str, bus: Bus, wire: Wire) -> None:
    """P10: NATS takes 1 MB."""
    text = "x" * 200_000

    async def count(ask: Ask) -> AskReply:
        return Told(text=str(len(ask.text)))

    async with open_hall(nats_url, count):
        replies = await asyncio.gather(*(bus.call(ASK, Ask(text=text), timeout_s=5) for _ in range(8)))
        assert replies == [Told(text="200000")] * 8
        await until(lambda: sum(wire.asked) == 8)
    assert len(wire.asked) == 8


async def test_large_replies_are_not_too_large_together(nats_url: str, bus: Bus) -> None:
    async def repeat(ask: Ask) -> AskReply:
        return Told(text="x" * ask.number)

    async with open_hall(nats_url, repeat):
        sizes = (100, 900_000, 200_000, 200_000, 900_000, 100)
        replies = await asyncio.gather(*(bus.call(ASK, Ask(text="", number=size), timeout_s=5) for size in sizes))
    assert replies == [Told(text="x" * size) for size in sizes]


async def test_a_reply_that_is_too_large_costs_the_others_nothing(nats_url: str, bus: Bus) -> None:
    async def repeat(ask: Ask) -> AskReply:
        return Told(text="x" * ask.number)

    async with open_hall(nats_url, repeat):
        replies = await asyncio.gather(*(bus.call(ASK, Ask(text="", number=size)) for size in (1, 2_000_000, 2)))
    assert replies == [Told(text="x"), failure(ErrorCode.INTERNAL_ERROR), Told(text="xx")]


async def test_a_quick_one_waits_for_no_slow_one(nats_url: str, bus: Bus) -> None:
    go = asyncio.Event()

    async def handler(ask: Ask) -> AskReply:
        if ask.number % 2:
            await go.wait()
        return Told(text=ask.text)

    async with open_hall(nats_url, handler):
        calls = [asyncio.create_task(bus.call(ASK, Ask(text=str(number), number=number))) for number in range(20)]
        assert await asyncio.gather(*calls[::2]) == told(20)[::2]
        assert not any(call.done() for call in calls[1::2])
        go.set()
        assert await asyncio.gather(*calls) == told(20)


async def test_whoever_gives_up_takes_nobody_along(nats_url: str, bus: Bus) -> None:
    """The first of a moment sends for all; the others must not be lost with it, nor it be asked for in vain."""
    heard: list[str] = []

    async def note(ask: Ask) -> AskReply:
        heard.append(ask.text)
        return Told(text=ask.text)

    async with open_hall(nats_url, note):
        calls = [asyncio.create_task(bus.call(ASK, Ask(text=str(number)))) for number in range(5)]
        await asyncio.sleep(0)
        calls[0].cancel()
        calls[3].cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, Told, Told, asyncio.CancelledError, Told]
    assert heard == ["1", "2", "4"]


async def test_each_has_a_time_of_its_own(nats_url: str, bus: Bus) -> None:
    """P9."""
    go = asyncio.Event()

    async def wait(ask: Ask) -> AskReply:
        await go.wait()
        return Told(text=ask.text)

    async with open_hall(nats_url, wait):
        hasty = asyncio.create_task(bus.call(ASK, Ask(text="hasty"), timeout_s=0.2))
        patient = asyncio.create_task(bus.call(ASK, Ask(text="patient"), timeout_s=10))
        with pytest.raises(CallTimeoutError):
            await hasty
        go.set()
        assert await patient == Told(text="patient")


async def test_nobody_serves(bus: Bus) -> None:
    """P9: each hears that at once, and that it was not handled."""
    began = time.perf_counter()
    ends = await at_once(bus, 20, timeout_s=5)
    assert {type(end) for end in ends} == {NoRespondersError}
    assert time.perf_counter() - began < 1


async def test_one_of_the_version_before_is_asked_singly(nats_url: str, bus: Bus, wire: Wire) -> None:
    """In an upgrade it refuses what it can't read; nothing is lost by that, and it is not tried again at once."""

    async def answer(message: Msg) -> None:
        try:
            reply = Told(text=msgspec.json.decode(message.data, type=Ask).text)
        except msgspec.ValidationError:
            reply = failure(ErrorCode.INVALID_VALUE, "The message is not valid: Expected `object`, got `array`")
        await message.respond(msgspec.json.encode(reply))

    async with open_bus(nats_url, service="before") as before:
        await before.client.subscribe(ASK.subject, queue="hall", cb=answer)
        await before.round_trip()
        assert await at_once(bus, 10) == told(10)
        assert await at_once(bus, 10) == told(10)
        await until(lambda: len(wire.asked) == 21)
    assert sorted(wire.asked) == [1] * 20 + [10]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[",
        b"[]",
        b"null",
        b'[{"number": 0}]',
        b'[{"number": -1, "body": {}}]',
        b'[{"number": 0, "body": \xff}]',
    ],
)
async def test_a_bundle_that_can_not_be_read_is_no_reply(bus: Bus, said: bytes) -> None:
    """Then each is asked by itself."""

    async def answer(message: Msg) -> None:
        await message.respond(said if message.data.startswith(b"[") else b'{"type":"told","text":"alone"}')

    await bus.client.subscribe(ASK.subject, cb=answer)
    assert await at_once(bus, 3) == [Told(text="alone")] * 3


async def test_a_reply_for_nobody_is_left_alone(bus: Bus) -> None:
    """And of two for the same, the first counts."""

    async def answer(message: Msg) -> None:
        replies = ((200, "nobody"), (1, "b"), (1, "again"), (0, "a"))
        parts = [
            BundledReply(number=number, body=Raw(msgspec.json.encode(Told(text=text)))) for number, text in replies
        ]
        await message.respond(msgspec.json.encode(parts))

    await bus.client.subscribe(ASK.subject, cb=answer)
    assert await at_once(bus, 2) == [Told(text="a"), Told(text="b")]


async def test_what_is_never_answered_is_forgotten(bus: Bus) -> None:
    """P10."""

    async def ignore(_: Msg) -> None: ...

    await bus.client.subscribe(ASK.subject, cb=ignore)
    under_way = bus._bundles._under_way  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    for _ in range(3):
        assert {type(end) for end in await at_once(bus, 5, timeout_s=0.05)} == {CallTimeoutError}
        assert len(under_way) == 1


async def test_one_with_a_header_that_no_bundle_takes_goes_by_itself(nats_url: str, bus: Bus, wire: Wire) -> None:
    """And its neighbours go together all the same."""
    async with open_hall(nats_url, echo):
        large = bus.call(ASK, Ask(text="large"), request_id="x" * 300)
        replies = await asyncio.gather(large, *(bus.call(ASK, Ask(text=str(number))) for number in range(5)))
        assert replies == [Told(text="large"), *told(5)]
        assert await at_once(bus, 5) == told(5)
        await until(lambda: len(wire.asked) == 3)
    assert sorted(wire.asked) == [1, 5, 5]
