"""Every call ends in a reply or a named error, in time, on a real server (P9); and every request is answered (P7)."""

import asyncio
import time

import pytest
import structlog
from nats.aio.msg import Msg
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from integration.runtime.harness import ASK, OTHER, Ask, AskReply, Declined, Told, echo, open_hall
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID
from odea_runtime.bus import BadReplyError, Bus, CallTimeoutError, NoRespondersError, UnavailableError

TIMEOUT_S = 0.3
MARGIN_S = 0.5
"""What a loaded machine may take beyond a timeout."""


class TestTheFourWays:
    """Answered, refused, fails, nobody there."""

    async def test_answered(self, nats_url: str, bus: Bus) -> None:
        async with open_hall(nats_url, echo):
            assert await bus.call(ASK, Ask(text="Grüße, 世界\n")) == Told(text="Grüße, 世界\n")

    async def test_refused(self, nats_url: str, bus: Bus) -> None:
        async def decline(ask: Ask) -> AskReply:
            return Declined(why=ask.text)

        async with open_hall(nats_url, decline):
            assert await bus.call(ASK, Ask(text="no")) == Declined(why="no")

    async def test_handler_raises(self, nats_url: str, bus: Bus) -> None:
        """P6, P9: the caller hears at once that it is our fault, and nothing of what it was."""

        async def fail(ask: Ask) -> AskReply:
            raise ValueError(f"internal detail {ask.text}")

        async with open_hall(nats_url, fail):
            with capture_logs() as logged:
                assert await bus.call(ASK, Ask(text="x")) == failure(ErrorCode.INTERNAL_ERROR)
        [line] = [entry for entry in logged if entry["event"] == "handler failed"]
        assert line["subject"] == ASK.subject

    async def test_what_the_handler_stands_on_is_not_there(self, nats_url: str, bus: Bus) -> None:
        """P9: the trouble has the service's own name."""

        async def fail(ask: Ask) -> AskReply:
            raise UnavailableError(ask.text)

        async with open_hall(nats_url, fail):
            assert await bus.call(ASK, Ask(text="x")) == failure(ErrorCode.KEYS_UNAVAILABLE)

    async def test_nobody_listens(self, bus: Bus) -> None:
        """P9: told apart from a timeout, and at once."""
        began = time.perf_counter()
        with pytest.raises(NoRespondersError):
            await bus.call(ASK, Ask(text="x"), timeout_s=5)
        assert time.perf_counter() - began < MARGIN_S


async def test_a_handler_that_takes_too_long_is_a_timeout(nats_url: str, bus: Bus) -> None:
    """P9."""
    entered = asyncio.Event()

    async def hang(_: Ask) -> AskReply:
        entered.set()
        return await asyncio.Event().wait()  # pyright: ignore[reportReturnType] - it never returns

    async with open_hall(nats_url, hang):
        began = time.perf_counter()
        with pytest.raises(CallTimeoutError):
            await bus.call(ASK, Ask(text="x"), timeout_s=TIMEOUT_S)
        assert TIMEOUT_S <= time.perf_counter() - began < TIMEOUT_S + MARGIN_S
        assert entered.is_set()


async def test_a_call_says_until_when_it_waits(nats_url: str, bus: Bus) -> None:
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    await bus.client.subscribe(ASK.subject, cb=seen.put)
    async with open_hall(nats_url, echo):
        before_ms = time.time() * 1000
        await bus.call(ASK, Ask(text="x"), timeout_s=2)
    headers = (await seen.get()).headers or {}
    assert before_ms + 1999 <= int(headers[HEADER_DEADLINE_MS]) <= time.time() * 1000 + 2000


@pytest.mark.parametrize(
    "reply",
    [b"", b"what?", b"null", b'{"type":"since_tomorrow"}', b'{"type":"told"}', b'{"type":"told","text":"\xff"}'],
)
async def test_a_reply_that_the_contract_does_not_know_is_named(bus: Bus, reply: bytes) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(reply)

    subscription = await bus.client.subscribe(ASK.subject, cb=answer)
    with pytest.raises(BadReplyError):
        await bus.call(ASK, Ask(text="x"))
    await subscription.unsubscribe()


async def test_the_request_id_is_on_the_lines_of_every_service(nats_url: str, bus: Bus) -> None:
    """The id travels on with what a handler asks of others, and ends with its request."""

    async def outer(ask: Ask) -> AskReply:
        structlog.get_logger().info("outer", text=ask.text)
        return await hall.bus.call(OTHER, ask)

    async def inner(ask: Ask) -> AskReply:
        structlog.get_logger().info("inner", text=ask.text)
        return Told(text=ask.text)

    async with open_hall(nats_url, outer, other=inner) as hall:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
            await asyncio.gather(*(bus.call(ASK, Ask(text=str(n)), request_id=f"req_{n}") for n in range(20)))
            await bus.call(ASK, Ask(text="none"))
    told = sorted((line["event"], line["text"], line["request_id"]) for line in logged)
    expected = [(place, str(n), f"req_{n}") for place in ("inner", "outer") for n in range(20)]
    assert told == sorted([*expected, ("inner", "none", None), ("outer", "none", None)], key=lambda line: line[:2])


async def test_the_caller_s_own_request_id_goes_along(nats_url: str, bus: Bus) -> None:
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    await bus.client.subscribe(ASK.subject, cb=seen.put)
    async with open_hall(nats_url, echo):
        with structlog.contextvars.bound_contextvars(request_id="req_mine"):
            await bus.call(ASK, Ask(text="x"))
    assert ((await seen.get()).headers or {})[HEADER_REQUEST_ID] == "req_mine"


async def test_what_is_published_reaches_who_listens(bus: Bus) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await bus.client.subscribe("odea.v1.hall.changed", cb=heard.put)
    await bus.publish("odea.v1.hall.changed", Told(text="news"))
    assert (await heard.get()).data == b'{"type":"told","text":"news"}'


async def test_calls_are_counted_by_how_they_end(nats_url: str, bus: Bus) -> None:
    def counted(outcome: str) -> float:
        labels = {"subject": OTHER.subject, "outcome": outcome}
        return REGISTRY.get_sample_value("odea_bus_calls_total", labels) or 0

    before = counted("ok"), counted("no_responders")
    with pytest.raises(NoRespondersError):
        await bus.call(OTHER, Ask(text="x"))
    async with open_hall(nats_url, echo, other=echo):
        await bus.call(OTHER, Ask(text="x"))
    assert (counted("ok"), counted("no_responders")) == (before[0] + 1, before[1] + 1)


async def test_who_gives_up_a_round_trip_does_not_make_the_connection_deaf(nats_url: str, bus: Bus) -> None:
    """P9: the pong that comes after that is for nobody, and reading goes on."""
    async with open_hall(nats_url, echo):
        for _ in range(5):
            asking = asyncio.create_task(bus.round_trip())
            await asyncio.sleep(0)
            asking.cancel()
        await bus.round_trip()
        assert await bus.check() is None
        assert await bus.call(ASK, Ask(text="there?")) == Told(text="there?")
