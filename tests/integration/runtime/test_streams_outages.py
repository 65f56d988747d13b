"""The bus goes away in the middle of a stream: both ends see it at once, and new streams go well after (P4, P9)."""

import asyncio

import pytest

from integration.runtime.harness import Ask
from integration.runtime.studio import (
    HEAD,
    MARGIN_S,
    SPEAK,
    ask_body,
    collect,
    end_of,
    listening,
    open_studio,
    play_nothing,
    play_on,
    was_cancelled,
)
from odea_contracts.synth import CancelReason
from odea_runtime.streams import IncomingStream, OutgoingStream, StreamBrokenError, Streams
from support.servers import NatsServer
from support.waiting import until


async def take_all(stream: IncomingStream) -> None:
    async for _ in stream:
        pass


async def is_whole(listener: Streams) -> bool:
    try:
        return await collect(listener, ask_body()) == b"whole"
    except Exception:  # noqa: BLE001 - whatever it is: not yet
        return False


async def test_both_ends_break_visibly_and_new_streams_go_well(breakable_nats: NatsServer) -> None:
    async def play(stream: OutgoingStream, ask: Ask) -> None:
        if ask.text == "endless":
            await play_on(stream, ask)
        await stream.head(HEAD)
        await stream.audio(b"whole")
        await stream.tail(0)

    url = breakable_nats.url
    async with open_studio(url, play) as studio, listening(url) as listener:
        async with listener.open(SPEAK, ask_body("endless"), {}) as stream:
            await stream.head()
            await anext(aiter(stream))
            breakable_nats.kill()
            async with asyncio.timeout(MARGIN_S):
                with pytest.raises(StreamBrokenError):
                    await take_all(stream)
        assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)
        breakable_nats.restart()
        await until(lambda: studio.bus.connected)
        await until(lambda: is_whole(listener))


async def test_a_stream_that_was_only_asked_for_breaks_too(breakable_nats: NatsServer) -> None:
    url = breakable_nats.url
    async with open_studio(url, play_nothing) as studio, listening(url) as listener:
        async with listener.open(SPEAK, ask_body(), {}) as stream:
            await until(lambda: len(studio.performers) == 1)
            breakable_nats.kill()
            async with asyncio.timeout(MARGIN_S):
                with pytest.raises(StreamBrokenError):
                    await stream.head()
        assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)


async def test_stopping_breaks_what_is_open(nats_url: str) -> None:
    async with open_studio(nats_url, play_on) as studio, listening(nats_url) as listener:
        async with listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
            await listener.stop()
            with pytest.raises(StreamBrokenError):
                await take_all(stream)
        assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)
