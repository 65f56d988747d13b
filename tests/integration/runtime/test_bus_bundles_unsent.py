"""Bundles that a connection does not take, or breaks under: every wait ends at once (P9)."""

import asyncio
import functools
import time
from collections.abc import Awaitable
from typing import Any

import pytest
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from integration.runtime.harness import (
    ASK,
    SENDING_FAILS,
    AskReply,
    at_once,
    echo,
    open_hall,
    send_nothing,
    told,
)
from odea_runtime.bus import Bus, CallTimeoutError, DisconnectedError


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
        with structlog.testing.capture_logs() as said:
            ends = await at_once(bus, 250, timeout_s=20)
        assert {type(end) for end in ends} == {DisconnectedError}
        assert time.perf_counter() - began < 5
        assert [line["error"] for line in said if line["log_level"] == "warning"] == [repr(error)]
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
