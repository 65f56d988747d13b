"""The Piper provider: one sentence ahead and no more, bounded, stoppable, and billed to the character."""

import asyncio
import io
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odea_contracts.synth import AudioFormat
from odea_synth.audio import open_encoder
from odea_synth.providers.base import Chunk, ErrorClass, Pcm, Provider, ProviderError, Utterance
from odea_synth.providers.piper import Engine, PiperOptions, PiperProvider
from odea_synth.providers.piper.engine import PiperEngine
from odea_synth.providers.piper.voices import VoiceFile

JOE = "en_US-joe-medium"
OPTIONS = PiperOptions(workers=1, streams_max=2, piece_chars_max=40)


class GatedEngine:
    """Speaks a piece as its own bytes, but only once the test has allowed it."""

    def __init__(self, allowed: int = 0) -> None:
        self.pieces: list[str] = []
        self.stopped: Callable[[], bool] | None = None
        self.fails: ProviderError | None = None
        self._allowed = threading.Semaphore(allowed)
        self._changed = threading.Condition()

    async def begun(self, pieces: int) -> None:
        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(lambda: len(self.pieces) >= pieces, timeout=10)

        await asyncio.to_thread(wait)

    def allow(self, pieces: int) -> None:
        self._allowed.release(pieces)

    def speak(self, text: str, *, speed: float, stopped: Callable[[], bool]) -> bytes:
        assert speed > 0
        self.stopped = stopped
        with self._changed:
            self.pieces.append(text)
            self._changed.notify_all()
        assert self._allowed.acquire(timeout=10), "the test never allowed this piece"
        if self.fails:
            raise self.fails
        return text.encode()


def say(text: str, *, voice: str = JOE, speed: float = 1.0) -> Utterance:
    return Utterance(text=text, voice=voice, model="piper", speed=speed)


@asynccontextmanager
async def started(engine: Engine, options: PiperOptions = OPTIONS) -> AsyncGenerator[PiperProvider]:
    def load(file: VoiceFile, options: PiperOptions) -> Engine:
        assert file.voice.id == JOE
        assert options.workers
        return engine

    provider = PiperProvider(options, load=load)
    await provider.start()
    try:
        yield provider
    finally:
        if isinstance(engine, GatedEngine):
            engine.allow(1000)
        await provider.close()


async def worker_is_idle(provider: PiperProvider, engine: GatedEngine) -> None:
    """With one worker, an utterance that is through proves that nothing before it is waiting."""
    engine.allow(1)
    async with asyncio.timeout(10):
        assert [chunk.audio async for chunk in provider.stream(say("marker"))] == [b"marker"]
    assert engine.pieces.pop() == "marker"


async def refused(stream: AsyncGenerator[Chunk]) -> ProviderError:
    with pytest.raises(ProviderError) as error:
        await anext(stream)
    return error.value


async def test_it_keeps_the_promise_of_a_provider(joe: PiperEngine) -> None:
    async with started(joe) as piper:
        provider: Provider = piper
        [voice] = await provider.voices()
        assert (voice.id, voice.provider, provider.name) == (JOE, "piper", "piper")
        assert provider.source_format(say("x")) == Pcm(rate_hz=22_050)
        with pytest.raises(ProviderError, match="no such voice"):
            provider.source_format(say("x", voice="nobody"))


async def test_what_is_said_can_be_heard(joe: PiperEngine) -> None:
    text = "Good morning. This is the second sentence."
    async with started(joe, PiperOptions()) as provider:
        encoder = open_encoder(AudioFormat.MP3, source_rate_hz=22_050)
        chunks = [chunk async for chunk in provider.stream(say(text))]
        encoded = b"".join(encoder.feed(chunk.audio) for chunk in chunks) + encoder.finish()
    assert [chunk.billed_units for chunk in chunks] == [14, 42] == [14, len(text)]
    with av.open(io.BytesIO(encoded), "r") as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert 2 < samples / 24_000 < 5


async def test_the_first_sentence_leaves_before_the_second_is_made() -> None:
    engine = GatedEngine(allowed=1)
    async with started(engine) as provider:
        stream = provider.stream(say("One. Two. Three."))
        async with asyncio.timeout(5):
            assert (await anext(stream)).audio == b"One. "
        await stream.aclose()


async def test_a_slow_reader_has_one_sentence_made_ahead_and_no_more() -> None:
    # P10: otherwise a reader who stops fills the memory.
    engine = GatedEngine(allowed=100)
    async with started(engine) as provider:
        stream = provider.stream(say("One. Two. Three. Four."))
        await anext(stream)
        await worker_is_idle(provider, engine)
        assert engine.pieces == ["One. ", "Two. "]
        await anext(stream)
        await worker_is_idle(provider, engine)
        assert engine.pieces == ["One. ", "Two. ", "Three. "]
        await stream.aclose()


@given(st.text(st.sampled_from("ab. \n,!?é你😀"), min_size=1, max_size=150))
@settings(deadline=None, max_examples=40)
async def test_every_character_is_billed_once(text: str) -> None:
    # P2: what was billed when the client leaves is what it has heard, and all of it is the whole text.
    async with started(GatedEngine(allowed=1000)) as provider:
        billed_units, heard = 0, ""
        async for chunk in provider.stream(say(text)):
            heard += chunk.audio.decode()
            assert billed_units < chunk.billed_units == len(heard)
            billed_units = chunk.billed_units
        assert heard == text
        assert provider.bound_units(say(text)) == billed_units == len(text)


async def test_closing_the_stream_stops_the_work() -> None:
    engine = GatedEngine(allowed=1)
    async with started(engine) as provider:
        stream = provider.stream(say("One. Two. Three. Four."))
        await anext(stream)
        await engine.begun(2)
        await stream.aclose()
        assert engine.stopped
        assert engine.stopped()
        engine.allow(1)
        await worker_is_idle(provider, engine)
        assert engine.pieces == ["One. ", "Two. "]


async def test_a_piece_that_waits_for_a_worker_is_never_begun_once_its_reader_left() -> None:
    engine = GatedEngine()
    async with started(engine) as provider:
        busy = asyncio.ensure_future(anext(provider.stream(say("Busy."))))
        await engine.begun(1)
        waiting = asyncio.ensure_future(anext(provider.stream(say("Waiting."))))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        engine.allow(1)
        assert (await busy).audio == b"Busy."
        await worker_is_idle(provider, engine)
        assert engine.pieces == ["Busy."]


async def test_a_failure_in_the_middle_reaches_the_reader() -> None:
    # P4: it must not look like the end.
    engine = GatedEngine(allowed=1)
    async with started(engine) as provider:
        stream = provider.stream(say("One. Two."))
        await anext(stream)
        engine.fails = ProviderError(ErrorClass.UPSTREAM, "broken")
        engine.allow(1)
        assert (await refused(stream)).error_class is ErrorClass.UPSTREAM


async def test_one_stream_too_many_is_throttled_until_another_ends() -> None:
    # P10, and P8: being busy is no fault of the engine.
    async with started(GatedEngine(allowed=100)) as provider:
        streams = [provider.stream(say("One. Two.")) for _ in range(OPTIONS.streams_max)]
        for stream in streams:
            await anext(stream)
        error = await refused(provider.stream(say("One.")))
        assert (error.error_class, error.retry_after_s) == (ErrorClass.THROTTLE, OPTIONS.retry_after_s)
        await streams[0].aclose()
        assert [chunk async for chunk in provider.stream(say("One."))]
        await streams[1].aclose()


@pytest.mark.parametrize(
    "bad",
    [say("Hi.", voice="nobody"), say(""), say("Hi.", speed=0.2), say("Hi.", speed=4.1), say("Hi.", speed=float("nan"))],
)
async def test_bad_requests_are_the_callers_and_cost_nothing(bad: Utterance) -> None:
    # P7
    engine = GatedEngine()
    async with started(engine) as provider:
        assert (await refused(provider.stream(bad))).error_class is ErrorClass.CALLER
        assert engine.pieces == []


async def test_a_hundred_callers_load_a_voice_once_and_off_the_loop() -> None:
    loaded_on: list[threading.Thread] = []
    begun, gate = threading.Event(), threading.Event()

    def load(file: VoiceFile, options: PiperOptions) -> Engine:
        assert file.voice.id == JOE
        loaded_on.append(threading.current_thread())
        begun.set()
        assert gate.wait(10)
        return GatedEngine(allowed=options.streams_max)

    provider = PiperProvider(replace(OPTIONS, load_at_start=False, streams_max=101), load=load)
    await provider.start()
    assert loaded_on == []
    impatient, *patient = [asyncio.ensure_future(anext(provider.stream(say("Hi.")))) for _ in range(101)]
    assert await asyncio.to_thread(begun.wait, 10)
    # The one who began the load leaves; the others still get it.
    impatient.cancel()
    gate.set()
    async with asyncio.timeout(10):
        assert [chunk.audio for chunk in await asyncio.gather(*patient)] == [b"Hi."] * 100
    assert len(loaded_on) == 1
    assert loaded_on[0] is not threading.main_thread()
    await provider.close()


async def test_a_voice_that_did_not_load_is_tried_again() -> None:
    faults = [ProviderError(ErrorClass.ACCOUNT, "not yet")]

    def load(file: VoiceFile, options: PiperOptions) -> Engine:
        assert file.voice.id == JOE
        if faults:
            raise faults.pop()
        return GatedEngine(allowed=options.streams_max)

    provider = PiperProvider(replace(OPTIONS, load_at_start=False), load=load)
    await provider.start()
    assert (await refused(provider.stream(say("Hi.")))).message == "not yet"
    assert [chunk.audio async for chunk in provider.stream(say("Hi."))] == [b"Hi."]
    await provider.close()


async def test_closing_the_provider_ends_open_streams_with_an_error() -> None:
    # P4: a cut text must not look like a whole one.
    engine = GatedEngine(allowed=1)
    async with started(engine) as provider:
        stream = provider.stream(say("One. Two. Three."))
        await anext(stream)
        await engine.begun(2)
        closing = asyncio.ensure_future(provider.close())
        await asyncio.sleep(0)
        assert engine.stopped
        assert engine.stopped()
        engine.allow(1)
        await closing
        with pytest.raises(ProviderError, match="shutting down"):
            _ = [chunk async for chunk in stream]
        assert "shutting down" in (await refused(provider.stream(say("Hi.")))).message


async def test_a_missing_voice_stops_the_start() -> None:
    provider = PiperProvider(PiperOptions(voices=("no_such_voice",)))
    with pytest.raises(ProviderError) as failed:
        await provider.start()
    assert "no_such_voice" in failed.value.detail
    await provider.close()


async def test_without_piper_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    provider = PiperProvider(PiperOptions(load_at_start=False))
    with pytest.raises(ProviderError) as failed:
        await provider.start()
    assert failed.value.error_class is ErrorClass.ACCOUNT
    assert "install the extra `piper` of odea-synth" in failed.value.detail
    await provider.close()


def test_options_name_every_fault_at_once() -> None:
    with pytest.raises(ValueError, match=r"workers must be at least 1; .*piece_chars_max must be at least 20"):
        PiperOptions(workers=0, piece_chars_max=1)
