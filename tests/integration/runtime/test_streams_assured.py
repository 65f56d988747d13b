"""A request that has lain about is begun only for whoever is still there: work for nobody is written off (P2)."""

import asyncio
import time
from typing import Final

import pytest

from integration.runtime.harness import Ask, open_bus
from integration.runtime.studio import (
    HEAD,
    IMPATIENT,
    MARGIN_S,
    PATIENT,
    SPEAK,
    Wire,
    ask_body,
    end_of,
    listening,
    open_studio,
    was_cancelled,
)
from odea_contracts.synth import HEADER_SENT_MS, CancelReason
from odea_runtime.bus import Bus
from odea_runtime.streams import OutgoingStream, Streams
from support.waiting import until

SELDOM_S: Final = 10.0
"""A beat that no test waits for."""
FRESH_S: Final = 5.0
"""What a busy machine may take to hand a request over."""


def sent(ago_s: float) -> dict[str, str]:
    return {HEADER_SENT_MS: str(int((time.time() - ago_s) * 1000))}


class Performance:
    """Begins when it is sure of its receiver."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = 0

    async def play(self, stream: OutgoingStream, ask: Ask) -> None:
        self.asked += 1
        await stream.assure()
        self.begun += 1
        await stream.head(HEAD)
        await stream.audio(b"all")
        await stream.tail(ask.number)
        await stream.receipt()


async def collect_sent(streams: Streams, headers: dict[str, str]) -> bytes:
    async with streams.open(SPEAK, ask_body(), headers) as stream:
        await stream.head()
        return b"".join([frame async for frame in stream])


@pytest.mark.parametrize("ago_s", [60.0, -60.0], ids=["long ago", "in the future"])
async def test_a_receiver_that_is_there_says_so_at_once(nats_url: str, ago_s: float) -> None:
    """Not at its next beat. Clocks that do not agree cost a question, and no speech."""
    performance = Performance()
    async with (
        open_studio(nats_url, performance.play, stream_beat_s=SELDOM_S),
        listening(nats_url, stream_beat_s=SELDOM_S) as listener,
    ):
        async with asyncio.timeout(SELDOM_S / 2):
            assert await collect_sent(listener, sent(ago_s)) == b"all"


async def test_a_receiver_that_has_just_asked_is_not_asked(nats_url: str) -> None:
    performance, wire = Performance(), Wire()
    async with (
        open_bus(nats_url, service="third") as third,
        open_studio(nats_url, performance.play, stream_beat_s=SELDOM_S, stream_fresh_s=FRESH_S),
        listening(nats_url, stream_beat_s=SELDOM_S) as listener,
    ):
        await wire.watch(third)
        assert await collect_sent(listener, {}) == b"all"
        await until(lambda: wire.audio == 1)
        assert wire.beats == 0


async def test_a_stream_says_when_it_was_asked_for(nats_url: str) -> None:
    """By itself: whoever opens one need not think of it. Every one is asked here, so that it shows."""
    performance, wire = Performance(), Wire()
    async with (
        open_bus(nats_url, service="third") as third,
        open_studio(nats_url, performance.play, stream_beat_s=SELDOM_S, stream_fresh_s=0),
        listening(nats_url, stream_beat_s=SELDOM_S) as listener,
    ):
        await wire.watch(third)
        assert await collect_sent(listener, {}) == b"all"
        await until(lambda: wire.beats == 1)


async def test_one_that_gave_up_unheard_is_told_from_one_that_waits(nats_url: str) -> None:
    """It has left a farewell, and the sender meets that before it begins."""
    performance = Performance()
    async with open_studio(nats_url, performance.play) as studio, listening(nats_url) as listener:
        async with listener.open(SPEAK, ask_body(), sent(60)) as stream:
            assert stream.unheard
        ended = await end_of(studio, 2 * PATIENT["stream_beat_s"] + MARGIN_S)
        assert was_cancelled(ended, CancelReason.RECEIVER_FAULT)
    assert (performance.asked, performance.begun) == (1, 0)


async def test_one_that_is_gone_for_good_is_not_waited_for_longer_than_silence(nats_url: str, bus: Bus) -> None:
    performance = Performance()
    async with open_studio(nats_url, performance.play, **IMPATIENT) as studio:
        inbox = bus.client.new_inbox()
        await bus.client.publish(SPEAK, ask_body(), reply=inbox, headers=sent(60))
        ended = await end_of(studio, IMPATIENT["stream_silence_s"] + IMPATIENT["stream_beat_s"] + MARGIN_S)
        assert was_cancelled(ended, None)
    assert (performance.asked, performance.begun) == (1, 0)


async def test_one_that_is_no_news_any_more_when_it_is_begun_is_asked(nats_url: str, bus: Bus) -> None:
    """What the sender did before that took too long."""
    begun = False

    async def play(stream: OutgoingStream, _: Ask) -> None:
        nonlocal begun
        await stream.assure()
        await asyncio.sleep(IMPATIENT["stream_silence_s"] / 2)
        await stream.assure()
        begun = True

    async with open_studio(nats_url, play, **IMPATIENT, stream_fresh_s=IMPATIENT["stream_silence_s"] / 2) as studio:
        inbox = bus.client.new_inbox()
        await bus.client.publish(SPEAK, ask_body(), reply=inbox, headers=sent(0))
        ended = await end_of(studio, IMPATIENT["stream_silence_s"] + IMPATIENT["stream_beat_s"] + MARGIN_S)
        assert was_cancelled(ended, None)
    assert not begun
