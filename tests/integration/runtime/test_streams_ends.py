"""Each end of a stream hears in time how the other left, and what it stopped for that goes on undisturbed (P2, P9)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from integration.runtime.harness import Ask
from integration.runtime.studio import (
    HEAD,
    IMPATIENT,
    MARGIN_S,
    PATIENT,
    SPEAK,
    Ended,
    Play,
    ask_body,
    collect,
    end_of,
    listening,
    open_studio,
    play_nothing,
    play_on,
    was_cancelled,
)
from odea_contracts.synth import HEADER_FRAME, CancelReason, Credit, Frame, Receipt
from odea_runtime.bus import Bus
from odea_runtime.streams import OutgoingStream, Streams
from support.waiting import until


@pytest.fixture
async def listener(nats_url: str) -> AsyncGenerator[Streams]:
    async with listening(nats_url) as streams:
        yield streams


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
        sent = 0

        async def play(stream: OutgoingStream, _: Ask) -> None:
            nonlocal sent
            await stream.head(HEAD)
            while True:
                await stream.audio(b"x")
                sent += 1

        async with open_studio(nats_url, play) as studio, listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
            await until(lambda: sent == 16)
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

    async def test_after_the_end_and_the_sender_has_its_receipt(self, nats_url: str, listener: Streams) -> None:
        async with open_studio(nats_url, play_to_the_end) as studio:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await stream.head()
                assert [frame async for frame in stream] == [b"all"]
                assert studio.ends.empty()
            assert stream.outcome == "whole"
            assert await end_of(studio) == Ended(None, cancelling=0)

    @pytest.mark.parametrize("reason", list(CancelReason))
    async def test_after_the_tail_without_having_handed_it_on(
        self, nats_url: str, listener: Streams, reason: CancelReason
    ) -> None:
        """P2: audio that came whole to the receiver, and no further."""
        async with open_studio(nats_url, play_to_the_end) as studio:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await stream.head()
                assert [frame async for frame in stream] == [b"all"]
                await stream.cancel(reason)
            assert was_cancelled(await end_of(studio), reason)

    async def test_after_the_tail_by_a_fault_of_its_own(self, nats_url: str, listener: Streams) -> None:
        """P2: an exception is no receipt."""

        async def fail_at_the_end() -> None:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await stream.head()
                raise ZeroDivisionError([frame async for frame in stream])

        async with open_studio(nats_url, play_to_the_end) as studio:
            with pytest.raises(ZeroDivisionError):
                await fail_at_the_end()
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)

    async def test_after_the_tail_by_dying(self, nats_url: str, bus: Bus) -> None:
        """P2: it had all of it, and nobody knows what became of that."""
        async with open_studio(nats_url, play_to_the_end, **IMPATIENT) as studio:
            await ask_by_hand(bus.client, credits_through=(1,))
            ended = await end_of(studio, IMPATIENT["stream_silence_s"] + IMPATIENT["stream_beat_s"] + MARGIN_S)
            assert was_cancelled(ended, None)

    async def test_long_after_the_tail_if_it_gives_signs_of_life(self, nats_url: str, listener: Streams) -> None:
        """A slow client may take its time with what is left: several times the length of a silence."""
        async with open_studio(nats_url, play_to_the_end, **IMPATIENT) as studio:
            async with listener.open(SPEAK, ask_body(), {}) as stream:
                await stream.head()
                assert [frame async for frame in stream] == [b"all"]
                with suppress(TimeoutError):
                    await end_of(studio, 2.5 * IMPATIENT["stream_silence_s"])
                assert studio.ends.empty()
            assert await end_of(studio) == Ended(None, cancelling=0)

    async def test_too_long_after_the_tail(self, nats_url: str, listener: Streams) -> None:
        """P10: signs of life alone are no receipt."""
        waited: list[bool] = []

        async def play(stream: OutgoingStream, ask: Ask) -> None:
            try:
                await play_to_the_end(stream, ask)
            except TimeoutError:
                waited.append(True)

        async with (
            open_studio(nats_url, play, stream_receipt_s=0.5) as studio,
            listener.open(SPEAK, ask_body(), {}) as stream,
        ):
            await stream.head()
            assert [frame async for frame in stream] == [b"all"]
            assert await end_of(studio) == Ended(None, cancelling=0)
        assert waited

    async def test_a_receipt_before_the_tail_is_none(self, nats_url: str, bus: Bus) -> None:
        """A confused listener can't have the end counted as delivered that it has not seen."""
        hurry = asyncio.Event()

        async def play(stream: OutgoingStream, ask: Ask) -> None:
            await stream.head(HEAD)
            await hurry.wait()
            await stream.audio(b"all")
            await stream.tail(ask.number)
            await stream.receipt()

        async def take(message: Msg) -> None:
            if (message.headers or {}).get(HEADER_FRAME) == Frame.HEAD:
                await bus.client.publish(message.reply, msgspec.json.encode(Receipt()))
                await bus.client.publish(message.reply, msgspec.json.encode(Credit(through=0)))
                await bus.round_trip()
                hurry.set()

        async with open_studio(nats_url, play, **IMPATIENT) as studio:
            inbox = bus.client.new_inbox()
            await bus.client.subscribe(inbox, cb=take)
            await bus.client.publish(SPEAK, ask_body(), reply=inbox)
            ended = await end_of(studio, IMPATIENT["stream_silence_s"] + IMPATIENT["stream_beat_s"] + MARGIN_S)
            assert was_cancelled(ended, None)

    @pytest.mark.parametrize("play", [play_on, play_nothing])
    async def test_by_dying(self, nats_url: str, bus: Bus, play: Play) -> None:
        """P2, P9: no word of it, and silence has no reason: the cost is ours."""
        async with open_studio(nats_url, play, **IMPATIENT) as studio:
            await ask_by_hand(bus.client, credits_through=())
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


async def play_to_the_end(stream: OutgoingStream, ask: Ask) -> None:
    """A short speech, and the wait for its receipt."""
    await stream.head(HEAD)
    await stream.audio(b"all")
    await stream.tail(ask.number)
    await stream.receipt()


async def fail_in_the_middle(listener: Streams) -> None:
    async with listener.open(SPEAK, ask_body(), {}) as stream:
        await stream.head()
        async for frame in stream:
            raise ZeroDivisionError(len(frame))


async def ask_by_hand(client: Client, credits_through: tuple[int, ...]) -> None:
    """Ask for a stream, send just this credit, and never give a sign of life."""
    inbox = client.new_inbox()

    async def take(message: Msg) -> None:
        if (message.headers or {}).get(HEADER_FRAME) == Frame.HEAD:
            for through in credits_through:
                await client.publish(message.reply, msgspec.json.encode(Credit(through=through)))

    await client.subscribe(inbox, cb=take)
    await client.publish(SPEAK, ask_body(), reply=inbox)


@pytest.mark.parametrize("through", [(10**6,), (-5,), (17,), (0,)], ids=["far ahead", "negative", "one ahead", "none"])
async def test_credit_for_frames_that_were_not_sent_is_none(nats_url: str, bus: Bus, through: tuple[int, ...]) -> None:
    """P10: a confused listener does not open the window."""
    sent = 0

    async def play(stream: OutgoingStream, _: Ask) -> None:
        nonlocal sent
        await stream.head(HEAD)
        while True:
            await stream.audio(b"x")
            sent += 1

    async with open_studio(nats_url, play, **IMPATIENT) as studio:
        await ask_by_hand(bus.client, through)
        assert was_cancelled(await end_of(studio, 3), None)
    assert sent == 16
