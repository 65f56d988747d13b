"""Each end of a stream hears in time how the other left, and what it stopped for that goes on undisturbed (P2, P9)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
import pytest
from nats.aio.msg import Msg

from integration.runtime.harness import Ask
from integration.runtime.studio import (
    HEAD,
    IMPATIENT,
    PATIENT,
    SPEAK,
    Ended,
    Studio,
    ask_body,
    collect,
    listening,
    open_studio,
)
from odea_contracts.synth import FRAME_BYTES_MAX, HEADER_FRAME, CancelReason, Credit, Frame
from odea_runtime.streams import CancelledByReceiverError, OutgoingStream, StreamBrokenError, Streams
from support.servers import NatsServer
from support.waiting import until

MARGIN_S = 1.0
"""What a loaded machine may take beyond a time limit."""


@pytest.fixture
async def listener(nats_url: str) -> AsyncGenerator[Streams]:
    async with listening(nats_url) as streams:
        yield streams


async def play_on(stream: OutgoingStream, _: Ask) -> None:
    """Without an end: only an interruption ends it."""
    await stream.head(HEAD)
    while True:
        await stream.audio(bytes(FRAME_BYTES_MAX))


async def play_nothing(_stream: OutgoingStream, _ask: Ask) -> None:
    """An upstream that hangs."""
    await asyncio.Event().wait()


def was_cancelled(ended: Ended, reason: CancelReason | None) -> bool:
    """Whether the block was left as it should be: with the reason, and with no cancellation left over."""
    assert isinstance(ended.error, CancelledByReceiverError)
    return ended == Ended(ended.error, cancelling=0) and ended.error.reason == reason


async def end_of(studio: Studio, within_s: float = MARGIN_S) -> Ended:
    async with asyncio.timeout(within_s):
        return await studio.ends.get()


class TestTheListenerLeaves:
    """What the sender is told."""

    @pytest.mark.parametrize("reason", list(CancelReason))
    async def test_with_a_reason_in_the_middle(self, nats_url: str, listener: Streams, reason: CancelReason) -> None:
        """P2: the reason decides who pays."""
        async with open_studio(nats_url, play_on) as studio, listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
            await anext(aiter(stream))
            await stream.cancel(reason)
            assert was_cancelled(await end_of(studio), reason)

    async def test_without_one_in_the_middle(self, nats_url: str, listener: Streams) -> None:
        """P2: a listener that breaks off by a fault of its own charges nobody."""
        async with open_studio(nats_url, play_on) as studio:
            with pytest.raises(ZeroDivisionError):
                await fail_in_the_middle(listener)
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)

    async def test_while_the_window_is_full(self, nats_url: str, listener: Streams) -> None:
        """The sender waits for credit that never comes."""
        async with open_studio(nats_url, play_on) as studio, listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
            await until(lambda: stream._messages.full() or stream._messages.qsize() == 16)
            await stream.cancel(CancelReason.CLIENT_STALLED)
            assert was_cancelled(await end_of(studio), CancelReason.CLIENT_STALLED)

    async def test_by_cancellation(self, nats_url: str, listener: Streams) -> None:
        async with open_studio(nats_url, play_nothing) as studio:
            hearing = asyncio.create_task(collect(listener, ask_body()))
            await until(lambda: len(studio.performers) == 1)
            hearing.cancel()
            await asyncio.wait([hearing])
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)

    @pytest.mark.parametrize("reason", [None, *CancelReason])
    async def test_before_the_sender_was_heard(
        self, nats_url: str, listener: Streams, reason: CancelReason | None
    ) -> None:
        """P2: the sender has not said yet where it listens; it is told at its first sign of life."""
        async with open_studio(nats_url, play_nothing) as studio:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                assert stream.unheard
                if reason:
                    await stream.cancel(reason)
            ended = await end_of(studio, 2 * PATIENT["stream_beat_s"] + MARGIN_S)
            assert was_cancelled(ended, reason or CancelReason.RECEIVER_FAULT)

    async def test_after_the_end_and_nothing_happens(self, nats_url: str, listener: Streams) -> None:
        async def play(stream: OutgoingStream, ask: Ask) -> None:
            await stream.head(HEAD)
            await stream.audio(b"all")
            await stream.tail(ask.number)

        async with open_studio(nats_url, play) as studio, listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
            assert [frame async for frame in stream] == [b"all"]
            await stream.cancel(CancelReason.CLIENT_GONE)
            assert stream.outcome == "whole"
            assert await end_of(studio) == Ended(None, cancelling=0)

    @pytest.mark.parametrize("play", [play_on, play_nothing])
    async def test_by_dying(self, nats_url: str, listener: Streams, play: Studio) -> None:
        """P2, P9: no word of it, and silence has no reason: the cost is ours."""
        async with open_studio(nats_url, play, **IMPATIENT) as studio:  # pyright: ignore[reportArgumentType]
            await ask_by_hand(listener, credits_through=())
            ended = await end_of(studio, IMPATIENT["stream_silence_s"] + IMPATIENT["stream_beat_s"] + MARGIN_S)
            assert was_cancelled(ended, None)

    async def test_not_while_it_gives_signs_of_life(self, nats_url: str, listener: Streams) -> None:
        """A listener that takes nothing for several times the length of a silence is still there."""
        async with open_studio(nats_url, play_on, **IMPATIENT) as studio:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await stream.head()
                with suppress(TimeoutError):
                    await end_of(studio, 2.5 * IMPATIENT["stream_silence_s"])
                assert studio.ends.empty()
                await anext(aiter(stream))
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)


async def fail_in_the_middle(listener: Streams) -> None:
    async with listener.open(SPEAK, ask_body(), {}) as stream:
        await stream.head()
        async for frame in stream:
            len(frame) // 0


async def ask_by_hand(listener: Streams, credits_through: tuple[int, ...]) -> asyncio.Queue[Msg]:
    """Ask for a stream, send just this credit, and never give a sign of life."""
    client, frames = listener._bus.client, asyncio.Queue[Msg]()  # pyright: ignore[reportPrivateUsage]
    inbox = client.new_inbox()

    async def take(message: Msg) -> None:
        frames.put_nowait(message)
        if (message.headers or {}).get(HEADER_FRAME) == Frame.HEAD:
            for through in credits_through:
                await client.publish(message.reply, msgspec.json.encode(Credit(through=through)))

    await client.subscribe(inbox, cb=take)
    await client.publish(SPEAK, ask_body(), reply=inbox)
    return frames


@pytest.mark.parametrize("through", [(10**6,), (-5,), (17,), (0,)], ids=["far ahead", "negative", "one ahead", "none"])
async def test_credit_for_frames_that_were_not_sent_is_none(
    nats_url: str, listener: Streams, through: tuple[int, ...]
) -> None:
    """P10: a confused listener does not open the window."""
    sent = 0

    async def play(stream: OutgoingStream, _: Ask) -> None:
        nonlocal sent
        await stream.head(HEAD)
        while True:
            await stream.audio(b"x")
            sent += 1

    async with open_studio(nats_url, play, **IMPATIENT) as studio:
        await ask_by_hand(listener, through)
        assert was_cancelled(await end_of(studio, 3), None)
    assert sent == 16


class TestInterruptionsStayInTheBlock:
    """What comes after the block, as the settlement does, is not cancelled by what ended the block."""

    async def cancel_during(self, nats_url: str, listener: Streams, play: object) -> Ended:
        async with open_studio(nats_url, play) as studio, listener.open(SPEAK, ask_body(), {}) as stream:  # pyright: ignore[reportArgumentType]
            await stream.head()
            await stream.cancel(CancelReason.CLIENT_GONE)
            return await end_of(studio)

    async def test_when_the_block_swallows_it_and_ends_well(self, nats_url: str, listener: Streams) -> None:
        async def play(stream: OutgoingStream, _: Ask) -> None:
            await stream.head(HEAD)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        assert (await self.cancel_during(nats_url, listener, play)).cancelling == 0

    async def test_when_the_block_swallows_it_and_sends_on(self, nats_url: str, listener: Streams) -> None:
        """It comes again at the next frame."""

        async def play(stream: OutgoingStream, _: Ask) -> None:
            await stream.head(HEAD)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await stream.audio(b"to nobody")

        assert was_cancelled(await self.cancel_during(nats_url, listener, play), CancelReason.CLIENT_GONE)

    async def test_when_the_block_turns_it_into_another_error(self, nats_url: str, listener: Streams) -> None:
        async def play(stream: OutgoingStream, _: Ask) -> None:
            await stream.head(HEAD)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("the upstream broke while it was closed") from None

        ended = await self.cancel_during(nats_url, listener, play)
        assert isinstance(ended.error, ConnectionError)
        assert ended.cancelling == 0

    async def test_when_the_block_takes_time_to_clean_up(self, nats_url: str, listener: Streams) -> None:
        async def play(stream: OutgoingStream, _: Ask) -> None:
            await stream.head(HEAD)
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)

        assert was_cancelled(await self.cancel_during(nats_url, listener, play), CancelReason.CLIENT_GONE)

    async def test_when_a_time_limit_stands_around_the_block(self, nats_url: str, listener: Streams) -> None:
        """The limit neither fires nor is disturbed."""
        after: list[str] = []

        class Limited(Studio):
            async def _perform(self, ask: Ask, receiver: str) -> None:
                async with asyncio.timeout(30):
                    await super()._perform(ask, receiver)
                    await asyncio.sleep(0)
                    after.append("settled")

        studio = Limited(nats_url, play_on, **PATIENT)
        await studio.bus.start(studio.streams.start)
        async with listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
        assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)
        await studio.tasks.drain(5)
        assert after == ["settled"]
        await studio.streams.stop()
        await studio.bus.stop()

    async def test_a_shutdown_is_not_taken_for_the_listener(self, nats_url: str, listener: Streams) -> None:
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

    async def test_a_shutdown_at_the_same_time_wins(self, nats_url: str, listener: Streams) -> None:
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


class TestWithoutNats:
    """The bus goes away in the middle of a stream (P4, P9)."""

    async def test_both_ends_break_visibly_and_new_streams_go_well(self, breakable_nats: NatsServer) -> None:
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

    async def test_a_stream_that_was_only_asked_for_breaks_too(self, breakable_nats: NatsServer) -> None:
        url = breakable_nats.url
        async with open_studio(url, play_nothing) as studio, listening(url) as listener:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await until(lambda: len(studio.performers) == 1)
                breakable_nats.kill()
                async with asyncio.timeout(MARGIN_S):
                    with pytest.raises(StreamBrokenError):
                        await stream.head()
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)

    async def test_stopping_breaks_what_is_open(self, nats_url: str) -> None:
        async with open_studio(nats_url, play_on) as studio, listening(nats_url) as listener:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await stream.head()
                await listener.stop()
                with pytest.raises(StreamBrokenError):
                    await take_all(stream)
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)


async def take_all(stream: object) -> None:
    async for _ in stream:  # pyright: ignore[reportGeneralTypeIssues]
        pass


async def is_whole(listener: Streams) -> bool:
    try:
        return await collect(listener, ask_body()) == b"whole"
    except Exception:  # noqa: BLE001 - whatever it is: not yet
        return False
