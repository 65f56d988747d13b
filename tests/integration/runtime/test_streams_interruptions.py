"""What comes after a sender's block, as the settlement does, is not cancelled by what ended the block (P2)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from integration.runtime.harness import Ask, settings_for
from integration.runtime.studio import (
    HEAD,
    MARGIN_S,
    PATIENT,
    SPEAK,
    Ended,
    Play,
    Studio,
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
from odea_runtime.streams import OutgoingStream, Receiver, Streams
from support.waiting import until


@pytest.fixture
async def listener(nats_url: str) -> AsyncGenerator[Streams]:
    async with listening(nats_url) as streams:
        yield streams


async def cancel_during(nats_url: str, listener: Streams, play: Play) -> Ended:
    async with open_studio(nats_url, play) as studio, listener.open(SPEAK, ask_body(), {}) as stream:
        await stream.head()
        await stream.cancel(CancelReason.CLIENT_GONE)
        return await end_of(studio)


async def test_when_the_block_swallows_it_and_ends_well(nats_url: str, listener: Streams) -> None:
    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    assert (await cancel_during(nats_url, listener, play)).cancelling == 0


async def test_when_the_block_swallows_it_and_sends_on(nats_url: str, listener: Streams) -> None:
    """It comes again at the next frame."""

    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await stream.audio(b"to nobody")

    assert was_cancelled(await cancel_during(nats_url, listener, play), CancelReason.CLIENT_GONE)


async def test_when_the_block_turns_it_into_another_error(nats_url: str, listener: Streams) -> None:
    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the upstream broke while it was closed") from None

    ended = await cancel_during(nats_url, listener, play)
    assert isinstance(ended.error, ConnectionError)
    assert ended.cancelling == 0


async def test_when_the_block_takes_time_to_clean_up(nats_url: str, listener: Streams) -> None:
    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    assert was_cancelled(await cancel_during(nats_url, listener, play), CancelReason.CLIENT_GONE)


async def test_when_a_time_limit_stands_around_the_block(nats_url: str, listener: Streams) -> None:
    """The limit neither fires nor is disturbed."""
    after: list[str] = []

    class Limited(Studio):
        async def perform(self, ask: Ask, receiver: Receiver) -> None:
            async with asyncio.timeout(30):
                await super().perform(ask, receiver)
                await asyncio.sleep(0)
                after.append("settled")

    studio = Limited(settings_for(nats_url, **PATIENT), play_on)
    await studio.bus.start(studio.streams.start)
    async with listener.open(SPEAK, ask_body(), {}) as stream:
        await stream.head()
    assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)
    await studio.tasks.drain(5)
    assert after == ["settled"]
    await studio.streams.stop()
    await studio.bus.stop()


async def test_a_shutdown_is_not_taken_for_the_listener(nats_url: str, listener: Streams) -> None:
    """A cancellation from outside goes through as one, and the listener is told."""
    async with open_studio(nats_url, play_nothing) as studio:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        await until(lambda: len(studio.performers) == 1)
        [performer] = studio.performers
        performer.cancel()
        assert (await end_of(studio)).error is None
        await asyncio.wait([performer])
        assert performer.cancelled()
        async with asyncio.timeout(MARGIN_S):
            await asyncio.wait([hearing])
        assert hearing.exception() is not None


async def test_a_shutdown_at_the_same_time_wins(nats_url: str, listener: Streams) -> None:
    async with open_studio(nats_url, play_nothing) as studio:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        await until(lambda: len(studio.performers) == 1)
        [performer] = studio.performers
        await studio.streams.stop()
        performer.cancel()
        await asyncio.wait([performer])
        assert performer.cancelled()
        hearing.cancel()
        await asyncio.wait([hearing])
