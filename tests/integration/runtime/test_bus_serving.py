"""Every request that arrives is answered, whatever is wrong with it or with us (P7), and nothing grows (P10)."""

import asyncio
import time

import msgspec
import pytest

from integration.runtime.harness import ASK, Ask, AskReply, Told, echo, listener, open_hall
from integration.runtime.proxy import proxied
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.synth import HEADER_DEADLINE_MS
from odea_runtime.bus import Bus, NoRespondersError
from support.waiting import until


async def ask_raw(bus: Bus, body: bytes, headers: dict[str, str] | None = None) -> AskReply:
    """Send any bytes and read the reply."""
    message = await bus.client.request(ASK.subject, body, timeout=2, headers=headers)
    return msgspec.json.decode(message.data, type=AskReply)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"text": 7}', "text"),
        (b'{"text": "a", "number": "b"}', "number"),
        (b'{"number": 1}', None),
        (b"not json", None),
        (b"", None),
        (b"null", None),
        (b"[]", None),
        (b'{"text": "\xff"}', None),
        (b'{"text": "\\ud800"}', None),
        (b'{"text": "a", "more": ' + b"[" * 300_000, None),
    ],
    ids=["type", "other type", "missing", "no JSON", "empty", "null", "list", "no UTF-8", "half a character", "deep"],
)
async def test_a_bad_body_is_refused_and_named(nats_url: str, bus: Bus, body: bytes, param: str | None) -> None:
    """P7: it costs its sender no timeout and is no fault of ours."""
    called = False

    async def note(_: Ask) -> AskReply:
        nonlocal called
        called = True
        return Told(text="")

    async with open_hall(nats_url, note):
        reply = await ask_raw(bus, body)
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.INVALID_VALUE, param)
    assert not called


async def test_fields_that_are_not_known_are_ignored(nats_url: str, bus: Bus) -> None:
    async with open_hall(nats_url, echo):
        assert await ask_raw(bus, b'{"text": "a", "since_tomorrow": {"x": 1}}') == Told(text="a")


async def test_work_whose_deadline_has_passed_is_dropped(nats_url: str, bus: Bus) -> None:
    heard: list[str] = []
    async with open_hall(nats_url, listener(heard)):
        late = {HEADER_DEADLINE_MS: str(int(time.time() * 1000) - 1)}
        await bus.client.publish(ASK.subject, b'{"text": "late"}', reply=bus.client.new_inbox(), headers=late)
        await bus.call(ASK, Ask(text="in time"))
    assert heard == ["in time"]


@pytest.mark.parametrize("deadline", ["", "soon", "-1", "\u00b2", "9" * 5000, "1e3", "9" * 20])
async def test_a_deadline_that_can_not_be_read_is_none(nats_url: str, bus: Bus, deadline: str) -> None:
    """P7."""
    async with open_hall(nats_url, echo):
        assert await ask_raw(bus, b'{"text": "a"}', {HEADER_DEADLINE_MS: deadline}) == Told(text="a")


async def test_more_than_fits_is_refused_at_once_and_room_comes_back(nats_url: str, bus: Bus) -> None:
    """P10."""
    entered, go = asyncio.Semaphore(0), asyncio.Event()

    async def wait(ask: Ask) -> AskReply:
        entered.release()
        await go.wait()
        return Told(text=ask.text)

    async with open_hall(nats_url, wait, tasks_max=2):
        first = [asyncio.create_task(bus.call(ASK, Ask(text=text))) for text in "ab"]
        for _ in first:
            await entered.acquire()
        assert await bus.call(ASK, Ask(text="c")) == failure(ErrorCode.OVERLOADED)
        go.set()
        assert await asyncio.gather(*first) == [Told(text="a"), Told(text="b")]
        assert await bus.call(ASK, Ask(text="d")) == Told(text="d")


async def test_slow_requests_hold_up_no_quick_one(nats_url: str, bus: Bus) -> None:
    go = asyncio.Event()

    async def handler(ask: Ask) -> AskReply:
        if ask.text == "slow":
            await go.wait()
        return Told(text=ask.text)

    async with open_hall(nats_url, handler):
        slow = [asyncio.create_task(bus.call(ASK, Ask(text="slow"))) for _ in range(50)]
        assert await bus.call(ASK, Ask(text="quick")) == Told(text="quick")
        assert not any(task.done() for task in slow)
        go.set()
        assert await asyncio.gather(*slow) == [Told(text="slow")] * 50


@pytest.mark.parametrize("wrong", [None, "text", {"a": 1}, object()], ids=["none", "text", "table", "object"])
async def test_a_handler_that_returns_no_message_is_our_fault_and_no_silence(
    nats_url: str, bus: Bus, wrong: object
) -> None:
    async def handler(_: Ask) -> AskReply:
        return wrong  # pyright: ignore[reportReturnType] - that is the test

    async with open_hall(nats_url, handler):
        assert await bus.call(ASK, Ask(text="x")) == failure(ErrorCode.INTERNAL_ERROR)


async def test_a_reply_that_is_too_large_is_our_fault_and_no_silence(nats_url: str, bus: Bus) -> None:
    """P10: the server takes 1 MB."""

    async def handler(_: Ask) -> AskReply:
        return Told(text="x" * 2_000_000)

    async with open_hall(nats_url, handler):
        assert await bus.call(ASK, Ask(text="x")) == failure(ErrorCode.INTERNAL_ERROR)


async def test_what_is_in_hand_is_answered_after_no_more_is_taken(nats_url: str, bus: Bus) -> None:
    """A graceful end: whoever asked hears the answer or that nobody is there, never nothing."""
    handled: list[int] = []
    entered, go = asyncio.Event(), asyncio.Event()

    async def handler(ask: Ask) -> AskReply:
        entered.set()
        await go.wait()
        handled.append(ask.number)
        return Told(text="done")

    async with open_hall(nats_url, handler) as hall:
        # So much that most of it is still on its way when the first is handled.
        text = "x" * 50_000
        calls = [asyncio.create_task(bus.call(ASK, Ask(text=text, number=n), timeout_s=5)) for n in range(200)]
        await entered.wait()
        await hall.bus.stop_serving()
        with pytest.raises(NoRespondersError):
            await bus.call(ASK, Ask(text="too late"))
        go.set()
        await hall.tasks.drain(5)
        ends = await asyncio.gather(*calls, return_exceptions=True)
    answered = [n for n, end in enumerate(ends) if end == Told(text="done")]
    refused = [n for n, end in enumerate(ends) if isinstance(end, NoRespondersError)]
    assert answered == sorted(handled)
    assert len(answered) + len(refused) == 200
    assert answered


async def test_a_started_service_is_found_and_a_stopping_one_is_not_asked(nats_url: str) -> None:
    """Each time the server is heard from after it has read what was changed, or callers would miss it for a moment."""
    async with proxied(nats_url) as proxy, open_hall(proxy.url, echo) as hall:
        subscribed = proxy.sent.index(f"SUB {ASK.subject} ".encode())
        assert b"PING" in proxy.sent[subscribed:]
        await hall.bus.stop_serving()
        unsubscribed = proxy.sent.index(b"UNSUB ")
        assert b"PING" in proxy.sent[unsubscribed:]


async def test_of_two_replicas_one_may_end_and_no_caller_notices(nats_url: str, bus: Bus) -> None:
    async with open_hall(nats_url, echo) as first, open_hall(nats_url, echo):
        asked = 0

        async def ask_on() -> None:
            nonlocal asked
            while asked < 500:
                asked += 1
                assert await bus.call(ASK, Ask(text="x"), timeout_s=5) == Told(text="x")

        callers = [asyncio.create_task(ask_on()) for _ in range(10)]
        await until(lambda: asked > 50)
        await first.bus.stop_serving()
        await first.tasks.drain(5)
        await first.bus.stop()
        assert asked < 500
        await asyncio.gather(*callers)
