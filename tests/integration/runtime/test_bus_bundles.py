"""Calls of the same moment leave in one message, and each is answered as if it had been alone (P7, P9, P10)."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any

import msgspec
import pytest
import structlog
from msgspec import Raw
from nats.aio.client import Client
from nats.aio.msg import Msg

from integration.runtime.harness import (
    ASK,
    SENDING_FAILS,
    Ask,
    AskReply,
    Told,
    echo,
    open_bus,
    open_hall,
    send_nothing,
)
from odea_contracts.bundles import BUNDLE_MAX, BundledReply, BundledRequest, ReplyBundle, RequestBundle
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID
from odea_runtime.bus import Bus, CallTimeoutError, DisconnectedError, NoRespondersError
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


async def at_once(bus: Bus, count: int, **more: Any) -> list[AskReply | BaseException]:
    """So many calls in one turn of the loop, and how each ends."""
    calls = (bus.call(ASK, Ask(text=str(number), number=number), **more) for number in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def told(count: int) -> list[Told]:
    return [Told(text=str(number)) for number in range(count)]


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


def bundle(bodies: Sequence[bytes], headers: dict[str, str] | None = None) -> bytes:
    return msgspec.json.encode([BundledRequest(headers=headers or {}, body=Raw(body)) for body in bodies])


async def ask_raw(bus: Bus, body: bytes, count: int) -> list[AskReply]:
    """The replies to a bundle made by hand, by their numbers."""
    replies: dict[int, AskReply] = {}
    inbox = bus.client.new_inbox()

    async def take(message: Msg) -> None:
        for reply in msgspec.json.decode(message.data, type=ReplyBundle):
            replies[reply.number] = msgspec.json.decode(reply.body, type=AskReply)

    await bus.client.subscribe(inbox, cb=take)
    await bus.client.publish(ASK.subject, body, reply=inbox)
    await until(lambda: len(replies) == count)
    return [replies[number] for number in sorted(replies)]


async def test_of_a_bundle_made_by_hand_each_part_is_judged_by_itself(nats_url: str, bus: Bus) -> None:
    """P7."""
    bodies = [b'{"text": "a"}', b'{"text": 7}', b"[]", b'{"text": "b"}', b"null"]
    async with open_hall(nats_url, echo):
        first, *wrong, last = await ask_raw(bus, bundle([*bodies, b'{"text": "c"}']), 6)
    assert (first, wrong.pop(2), last) == (Told(text="a"), Told(text="b"), Told(text="c"))
    assert [(one.code, one.param) for one in wrong if isinstance(one, Failure)] == [
        (ErrorCode.INVALID_VALUE, "text"),
        (ErrorCode.INVALID_VALUE, None),
        (ErrorCode.INVALID_VALUE, None),
    ]


async def test_a_part_whose_deadline_has_passed_is_dropped(nats_url: str, bus: Bus) -> None:
    late = {HEADER_DEADLINE_MS: str(int(time.time() * 1000) - 1)}
    parts = [
        BundledRequest(headers=headers, body=Raw(b'{"text": "%d"}' % number))
        for number, headers in enumerate(({}, late, {}))
    ]
    async with open_hall(nats_url, echo):
        assert await ask_raw(bus, msgspec.json.encode(parts), 2) == [Told(text="0"), Told(text="2")]


async def test_parts_beyond_what_may_be_in_hand_are_refused(nats_url: str, bus: Bus) -> None:
    """P10."""
    async with open_hall(nats_url, echo, tasks_max=3):
        replies = await ask_raw(bus, bundle([b'{"text": "x"}'] * 5), 5)
    assert replies == [Told(text="x")] * 3 + [failure(ErrorCode.OVERLOADED)] * 2


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[",
        b"[null]",
        b'[{"body": {}}]',
        b'[{"headers": {"a": 1}, "body": {}}]',
        b'[{"headers": {"a": "%s"}, "body": {}}]' % (b"x" * 257),
        b'[{"headers": {}, "body": ' + b"[" * 300_000,
        bundle([b'{"text": "x"}'] * (BUNDLE_MAX + 1)),
        bundle([b'{"text": "x"}'], {str(number): "" for number in range(17)}),
    ],
    ids=["empty", "no JSON", "null", "no headers", "a number", "long", "deep", "many", "many headers"],
)
async def test_what_is_no_bundle_is_refused_whole(nats_url: str, bus: Bus, body: bytes) -> None:
    """P7, and nothing of it is handled."""
    handled = 0

    async def note(_: Ask) -> AskReply:
        nonlocal handled
        handled += 1
        return Told(text="")

    async with open_hall(nats_url, note):
        message = await bus.client.request(ASK.subject, body, timeout=2)
    assert msgspec.json.decode(message.data, type=AskReply).code is ErrorCode.INVALID_VALUE  # pyright: ignore[reportAttributeAccessIssue]
    assert handled == 0


async def test_a_bundle_that_nobody_waits_for_is_handled_and_not_answered(nats_url: str, bus: Bus) -> None:
    heard: list[str] = []

    async def note(ask: Ask) -> AskReply:
        heard.append(ask.text)
        return Told(text="")

    async with open_hall(nats_url, note):
        await bus.client.publish(ASK.subject, bundle([b'{"text": "a"}', b'{"text": "b"}']))
        await bus.client.publish(ASK.subject, bundle([b'{"text": "c"}']), reply="odea.v1.hall.other")
        await until(lambda: heard == ["a", "b", "c"])
        assert await bus.call(ASK, Ask(text="d")) == Told(text="")


async def test_a_connection_that_breaks_ends_every_wait(bus: Bus) -> None:
    """P9."""
    entered = asyncio.Event()

    async def ignore(_: Msg) -> None:
        entered.set()

    await bus.client.subscribe(ASK.subject, cb=ignore)

    async def close() -> None:
        await entered.wait()
        await bus.stop()

    ends: Awaitable[list[AskReply | BaseException]] = at_once(bus, 5, timeout_s=1)
    began = time.perf_counter()
    found, _ = await asyncio.gather(ends, close())
    assert {type(end) for end in found} == {CallTimeoutError}
    assert time.perf_counter() - began < 3


@SENDING_FAILS
async def test_a_bundle_that_can_not_be_sent_ends_every_wait_at_once(
    nats_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """P9: also of those in the bundles after it."""
    async with open_hall(nats_url, echo):
        send_nothing(monkeypatch, bus, error)
        began = time.perf_counter()
        ends = await at_once(bus, 250, timeout_s=20)
        assert {type(end) for end in ends} == {DisconnectedError}
        assert time.perf_counter() - began < 5
        monkeypatch.undo()
        assert await at_once(bus, 3) == told(3)


async def test_a_refused_bundle_of_a_lost_connection_is_not_sent_singly(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: its requests would wait in a buffer that nobody empties until their time is up."""

    async def refuse(message: Msg) -> None:
        assert message.data.startswith(b"[")
        await message.respond(b'{"type":"told","text":"no bundles here"}')

    async def lose(request: Any, *arguments: Any) -> bytes | None:
        reply = await request(*arguments)
        monkeypatch.setattr(bus.client, "_status", Client.RECONNECTING)
        return reply

    await bus.client.subscribe(ASK.subject, cb=refuse)
    assert bus._bundles  # pyright: ignore[reportPrivateUsage]
    asking = bus._bundles.ask  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(bus._bundles, "ask", functools.partial(lose, asking))  # pyright: ignore[reportPrivateUsage]
    ends = await at_once(bus, 3, timeout_s=2)
    monkeypatch.setattr(bus.client, "_status", Client.CONNECTED)
    assert {type(end) for end in ends} == {DisconnectedError}


async def test_one_with_a_header_that_no_bundle_takes_goes_by_itself(nats_url: str, bus: Bus, wire: Wire) -> None:
    """And its neighbours go together all the same."""
    async with open_hall(nats_url, echo):
        large = bus.call(ASK, Ask(text="large"), request_id="x" * 300)
        replies = await asyncio.gather(large, *(bus.call(ASK, Ask(text=str(number))) for number in range(5)))
        assert replies == [Told(text="large"), *told(5)]
        assert await at_once(bus, 5) == told(5)
        await until(lambda: len(wire.asked) == 3)
    assert sorted(wire.asked) == [1, 5, 5]


@pytest.mark.parametrize("request_id", ["x" * 129, "a b", "\u00e9", ""])
async def test_a_request_id_that_is_none_is_not_passed_on(nats_url: str, bus: Bus, request_id: str) -> None:
    """P7: nor does it stand in a log."""
    seen: list[object] = []

    async def note(_: Ask) -> AskReply:
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))
        return Told(text="")

    async with open_hall(nats_url, note):
        await bus.client.request(ASK.subject, b'{"text": ""}', headers={HEADER_REQUEST_ID: request_id}, timeout=2)
    assert seen == [None]
