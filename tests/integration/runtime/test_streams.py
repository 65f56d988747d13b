"""Audio crosses the bus whole and byte for byte (P4), and never faster than it is taken (P10)."""

import asyncio
import random
import time
import tracemalloc
from collections.abc import AsyncGenerator

import pytest
from prometheus_client import REGISTRY

from integration.runtime.harness import Ask, open_bus
from integration.runtime.studio import HEAD, IMPATIENT, SPEAK, Wire, ask_body, collect, listening, open_studio
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.synth import FRAME_BYTES_MAX, HEADER_DEADLINE_MS, TIMINGS_MAX, Timing, Timings
from odea_runtime.bus import NoRespondersError
from odea_runtime.streams import OutgoingStream, RefusedError, StreamBrokenError, Streams
from support.waiting import until


@pytest.fixture
async def listener(nats_url: str) -> AsyncGenerator[Streams]:
    async with listening(nats_url) as streams:
        yield streams


def sound(length: int) -> bytes:
    """Bytes that differ everywhere, the same for the same length."""
    return random.Random(length).randbytes(length)


async def play_sound(stream: OutgoingStream, ask: Ask) -> None:
    await stream.head(HEAD)
    await stream.audio(sound(ask.number))
    await stream.tail(ask.number)


@pytest.mark.parametrize(
    "length", [0, 1, FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 1_000_003, 6 * 1024 * 1024]
)
async def test_what_is_sent_arrives(nats_url: str, listener: Streams, length: int) -> None:
    """P4."""
    async with open_studio(nats_url, play_sound), listener.open(SPEAK, ask_body(number=length), {}) as stream:
        assert await stream.head() == HEAD
        frames = [frame async for frame in stream]
        assert b"".join(frames) == sound(length)
        assert all(0 < len(frame) <= FRAME_BYTES_MAX for frame in frames)
        assert stream.tail is not None
        assert (stream.tail.frames, stream.tail.bytes, stream.tail.units) == (len(frames), length, length)
        assert stream.outcome == "whole"


async def test_many_small_pieces_arrive_in_their_order(nats_url: str, listener: Streams) -> None:
    """P4."""

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        await stream.head(HEAD)
        for number in range(ask.number):
            await stream.audio(b"%d " % number)
        await stream.audio(b"")
        await stream.tail(0)

    async with open_studio(nats_url, play):
        heard = await collect(listener, ask_body(number=1000))
    assert heard.split() == [b"%d" % number for number in range(1000)]


async def test_timings_come_in_their_place_and_are_no_part_of_the_audio(nats_url: str, listener: Streams) -> None:
    """P4. A receiver that does not look at them gets the same audio."""
    words = [Timing(word=f"word {number}", start_ms=number, end_ms=number + 1) for number in range(2 * TIMINGS_MAX + 1)]

    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        await stream.audio(b"one")
        await stream.timings(words)
        await stream.audio(b"two")
        await stream.timings(())
        await stream.tail(0)

    async with open_studio(nats_url, play):
        async with listener.open(SPEAK, ask_body(), {}) as stream:
            await stream.head()
            parts = [part async for part in stream.parts()]
        assert (parts[0], parts[-1]) == (b"one", b"two")
        frames = [part for part in parts if isinstance(part, Timings)]
        assert parts[1:-1] == frames
        assert [timing for frame in frames for timing in frame.timings] == words
        assert stream.tail is not None
        assert (stream.tail.frames, stream.tail.bytes) == (len(frames) + 2, 6)
        assert await collect(listener, ask_body()) == b"onetwo"


async def test_timings_wait_for_credit_as_audio_does(nats_url: str, listener: Streams) -> None:
    """P10."""
    played: list[int] = []

    async def play(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        for number in range(40):
            await stream.timings([Timing(word="a", start_ms=number, end_ms=number)])
            played.append(number)
        await stream.tail(0)

    async with (
        open_studio(nats_url, play, stream_window_frames=4) as studio,
        listener.open(SPEAK, ask_body(), {}) as stream,
    ):
        await stream.head()
        await until(lambda: len(played) == 4)
        # Whatever was sent too early would have left with this.
        await studio.bus.round_trip()
        assert len(played) == 4
        assert len([part async for part in stream.parts()]) == 40


async def test_two_hundred_streams_at_once_are_all_exact(nats_url: str, listener: Streams) -> None:
    """P4: nobody gets another's audio."""
    lengths = [random.Random(7).randrange(300_000) for _ in range(200)]
    async with open_studio(nats_url, play_sound) as studio:
        heard = await asyncio.gather(*(collect(listener, ask_body(number=length)) for length in lengths))
        for _ in lengths:
            assert (await studio.ends.get()).error is None
    assert heard == [sound(length) for length in lengths]


async def test_no_stream_is_left_on_the_books(nats_url: str, listener: Streams) -> None:
    """P10."""
    async with open_studio(nats_url, play_sound) as studio:
        for _ in range(20):
            await collect(listener, ask_body(number=10))
        with pytest.raises(RefusedError):
            await collect(listener, b"what?")
        await until(lambda: studio.ends.qsize() == 20)
        assert len(studio.tasks) == 0
    assert REGISTRY.get_sample_value("odea_stream_open", {"end": "send"}) == 0
    assert REGISTRY.get_sample_value("odea_stream_open", {"end": "receive"}) == 0


@pytest.mark.parametrize("code", [ErrorCode.INSUFFICIENT_QUOTA, ErrorCode.VOICE_NOT_FOUND, ErrorCode.UPSTREAM_TIMEOUT])
async def test_a_refusal_before_the_first_audio_says_why(nats_url: str, listener: Streams, code: ErrorCode) -> None:
    async def refuse(stream: OutgoingStream, _: Ask) -> None:
        await stream.fail(failure(code, retry_after_ms=1500))

    async with open_studio(nats_url, refuse), listener.open(SPEAK, ask_body(), {}) as stream:
        with pytest.raises(RefusedError) as caught:
            await stream.head()
    assert caught.value.failure == failure(code, retry_after_ms=1500)
    assert stream.outcome == "refused"


async def test_a_failure_in_the_middle_is_visible(nats_url: str, listener: Streams) -> None:
    """P4: what came before it is not taken for the whole."""

    async def break_off(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        await stream.audio(b"half")
        await stream.fail(failure(ErrorCode.UPSTREAM_ERROR))

    async with open_studio(nats_url, break_off), listener.open(SPEAK, ask_body(), {}) as stream:
        await stream.head()
        frames = aiter(stream)
        assert await anext(frames) == b"half"
        with pytest.raises(RefusedError) as caught:
            await anext(frames)
    assert caught.value.failure.code is ErrorCode.UPSTREAM_ERROR
    assert stream.tail is None


@pytest.mark.parametrize("frames", [0, 3])
async def test_a_sender_that_just_leaves_is_visible_at_once(nats_url: str, listener: Streams, frames: int) -> None:
    """P4: an exception of ours, or a path that forgot the tail."""

    async def leave(stream: OutgoingStream, _: Ask) -> None:
        await stream.head(HEAD)
        await stream.audio(sound(frames * FRAME_BYTES_MAX))
        raise ConnectionError("ours")

    async with open_studio(nats_url, leave):
        with pytest.raises(RefusedError) as caught:
            await collect(listener, ask_body())
    assert caught.value.failure.code is ErrorCode.SYNTH_UNAVAILABLE


async def test_a_slow_listener_slows_the_sender(nats_url: str) -> None:
    """P10: no more than the window is ever under way, and nothing is made that can't be sent."""
    window, made, taken, under_way_max = 8, 0, 0, 0

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        nonlocal made, under_way_max
        await stream.head(HEAD)
        while made < ask.number:
            made += 1
            await stream.audio(sound(FRAME_BYTES_MAX))
            under_way_max = max(under_way_max, made - taken)
        await stream.tail(0)

    wire = Wire()
    async with (
        open_bus(nats_url, service="third") as third,
        open_studio(nats_url, play, stream_window_frames=window),
        listening(nats_url, stream_window_frames=window) as listener,
        listener.open(SPEAK, ask_body(number=100), {}) as stream,
    ):
        await wire.watch(third)
        await stream.head()
        async for _ in stream:
            taken += 1
            if taken in {1, 20, 50}:
                # The listener takes nothing for a few signs of life: all credit is used up, and then nothing moves.
                await until(lambda sent=taken - 1 + window: wire.audio >= sent)
                beats = wire.beats
                await until(lambda seen=beats: wire.beats >= seen + 3)
                assert wire.audio <= taken + window
                assert made <= taken + window + 1
    assert taken == 100
    assert window - 1 <= under_way_max <= window


async def test_memory_stays_flat_however_long_the_audio(nats_url: str, listener: Streams) -> None:
    """P10: 48 MB go through a small part of that."""

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        await stream.head(HEAD)
        for _ in range(ask.number):
            await stream.audio(bytes(FRAME_BYTES_MAX))
        await stream.tail(0)

    async def take_all(number: int) -> None:
        async with listener.open(SPEAK, ask_body(number=number), {}) as stream:
            await stream.head()
            async for _ in stream:
                pass

    async with open_studio(nats_url, play):
        await take_all(32)
        tracemalloc.start()
        try:
            await take_all(768)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


async def test_a_pause_of_any_length_breaks_nothing(nats_url: str, listener: Streams) -> None:
    """Signs of life do not pile up before a listener that takes nothing for a while."""
    wire = Wire()
    async with (
        open_bus(nats_url, service="third") as third,
        open_studio(nats_url, play_sound, stream_beat_s=0.01),
        listener.open(SPEAK, ask_body(number=3_000_000), {}) as stream,
    ):
        await wire.watch(third)
        await stream.head()
        await until(lambda: wire.beats > 60)
        assert b"".join([frame async for frame in stream]) == sound(3_000_000)


async def test_audio_that_is_long_in_coming_is_waited_for_while_the_sender_lives(nats_url: str) -> None:
    """The sender's signs of life go on for several times the length of a silence."""
    go = asyncio.Event()

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        await go.wait()
        await play_sound(stream, ask)

    wire = Wire()
    async with (
        open_bus(nats_url, service="third") as third,
        open_studio(nats_url, play, stream_beat_s=0.05),
        listening(nats_url, stream_beat_s=0.05, stream_answer_s=0.5, stream_silence_s=0.5) as listener,
    ):
        await wire.watch(third)
        hearing = asyncio.create_task(collect(listener, ask_body(number=10)))
        await until(lambda: wire.beats > 25)
        assert not hearing.done()
        go.set()
        assert await hearing == sound(10)


async def test_a_process_that_stood_still_reads_what_came_in_before_it_judges(nats_url: str) -> None:
    """Both ends are in one loop here, so it is for longer than the listener's patience that neither does anything."""

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        time.sleep(2 * IMPATIENT["stream_answer_s"])  # noqa: ASYNC251 - standing still is what this is about
        await play_sound(stream, ask)

    async with open_studio(nats_url, play), listening(nats_url, **IMPATIENT) as listener:
        assert await collect(listener, ask_body(number=10)) == sound(10)


async def test_nobody_serves(listener: Streams) -> None:
    """P9: at once, and told apart from a sender that fell silent."""
    async with asyncio.timeout(1), listener.open(SPEAK, ask_body(), {}) as stream:
        with pytest.raises(NoRespondersError):
            await stream.head()


@pytest.mark.parametrize("body", [b"", b"what?", b'{"text": 1}', b'{"text": "\xff"}'])
async def test_a_request_that_can_not_be_read_is_refused(nats_url: str, listener: Streams, body: bytes) -> None:
    """P7."""
    async with open_studio(nats_url, play_sound) as studio:
        with pytest.raises(RefusedError) as caught:
            await collect(listener, body)
        assert caught.value.failure.code is ErrorCode.INVALID_VALUE
        assert studio.ends.empty()


async def test_more_streams_than_fit_are_refused_at_once(nats_url: str, listener: Streams) -> None:
    """P10."""
    go = asyncio.Event()

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        await stream.head(HEAD)
        await go.wait()
        await stream.tail(ask.number)

    async with open_studio(nats_url, play, tasks_max=1), listener.open(SPEAK, ask_body(), {}) as first:
        await first.head()
        with pytest.raises(RefusedError) as caught:
            await collect(listener, ask_body())
        assert caught.value.failure.code is ErrorCode.OVERLOADED
        go.set()
        assert [frame async for frame in first] == []


async def test_a_request_whose_deadline_has_passed_is_dropped(nats_url: str, listener: Streams) -> None:
    async with (
        open_studio(nats_url, play_sound) as studio,
        listening(nats_url, stream_answer_s=0.2) as hasty,
        hasty.open(SPEAK, ask_body(), {HEADER_DEADLINE_MS: "1"}) as stream,
    ):
        with pytest.raises(StreamBrokenError):
            await stream.head()
        await collect(listener, ask_body(number=1))
        await studio.ends.get()
        assert studio.ends.empty()


async def test_a_request_without_an_inbox_is_no_trouble(nats_url: str, listener: Streams) -> None:
    async with open_studio(nats_url, play_sound) as studio, open_bus(nats_url) as bus:
        await bus.client.publish(SPEAK, ask_body(number=1))
        await bus.round_trip()
        assert await collect(listener, ask_body(number=1)) == sound(1)
        await studio.ends.get()
        assert studio.ends.empty()
