"""One speech from request to tail: hold, speak, encode, send, charge. What it costs follows from how it ends (P2).

| How it ends | What happens to the hold |
|---|---|
| whole | settled with what the provider billed, before the tail is sent |
| refused or failed before the provider billed anything | released |
| cut by us or the provider | settled with nothing: written off |
| the caller left, or stalled until the gateway gave up | settled with what the provider billed until then |
| the gateway died or broke the stream | written off |

The receiver can interrupt a speech until its stream is left, and only then is the hold ended: how a speech ends is
decided once, and nothing that comes later changes it or keeps its hold open.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from prometheus_client import Counter, Histogram

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Outcome, Settle
from odea_contracts.synth import CONTENT_TYPES, CancelReason, Head, Speak
from odea_runtime.streams import CancelledByReceiverError, OutgoingStream, Streams
from odea_synth.audio import Encoder, open_encoder, sample_rate_for
from odea_synth.metering import Hold, Meter
from odea_synth.providers.base import Chunk, Encoded, ErrorClass, ProviderError
from odea_synth.request_log import Ended, RequestLog, refused
from odea_synth.settings import SynthSettings
from odea_synth.synthesis import Catalogue, Route, provider_failure

T = TypeVar("T")

_LEFT = {CancelReason.CLIENT_GONE, CancelReason.CLIENT_STALLED}
_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)

_SPEECHES = Counter("odea_synth_speeches_total", "Speeches, by how they ended", ["provider", "outcome"])
_FIRST_AUDIO = Histogram(
    "odea_synth_first_audio_seconds", "From request to first audio", ["provider"], buckets=_BUCKETS
)


@dataclass(slots=True)
class _Speech:
    """What is known of a speech so far."""

    request: Speak
    route: Route
    hold: Hold
    began: float = field(default_factory=time.monotonic)
    began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    billed_units: int = 0
    first_audio_ms: int | None = None
    bytes_sent: int = 0
    units_settled: int | None = None
    outcome: str = "fault"
    code: ErrorCode | None = None

    @property
    def charge(self) -> int:
        """What the provider billed, never more than is held."""
        return min(self.billed_units, self.hold.units)


class Speaker:
    """Speaks requests, many at a time."""

    def __init__(
        self, catalogue: Catalogue, meter: Meter, streams: Streams, log: RequestLog, settings: SynthSettings
    ) -> None:
        self._catalogue = catalogue
        self._meter = meter
        self._streams = streams
        self._log = log
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.synth_encoder_threads, thread_name_prefix="encoder")

    async def speak(self, request: Speak, receiver: str) -> None:
        """Answer `request` with a stream to `receiver`. Every end is accounted for; only cancellation is raised."""
        speech: _Speech | None = None
        began_ms = time.time_ns() // 1_000_000
        try:
            async with self._streams.send(receiver, request.credits) as stream:
                try:
                    begun = await self._begin(request)
                    if isinstance(begun, Failure):
                        _SPEECHES.labels("", begun.code).inc()
                        self._log.add(refused(request, begun, began_ms))
                        await stream.fail(begun)
                        return
                    speech = begun
                    speech.outcome = await self._speak(speech, stream)
                except Exception:  # noqa: BLE001 - a fault of ours must still end the stream and the hold
                    structlog.get_logger().exception("speech failed")
                    await stream.fail(failure(ErrorCode.INTERNAL_ERROR))
        except CancelledByReceiverError as cancelled:
            if speech:
                speech.outcome = cancelled.reason or "receiver_silent"
        except asyncio.CancelledError:
            if speech:
                speech.outcome = "shutdown"
            raise
        finally:
            if speech:
                await _see_through(self._conclude(speech))

    def close(self) -> None:
        """End the encoder threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _begin(self, request: Speak) -> "_Speech | Failure":
        """Everything that can refuse before a provider is called."""
        route = self._catalogue.route(request)
        if isinstance(route, Failure):
            return route
        try:
            sample_rate_for(request.response_format, request.sample_rate_hz)
        except ValueError as error:
            return failure(ErrorCode.INVALID_VALUE, str(error), param="sample_rate")
        hold = await self._meter.reserve(request, route.provider.bound_units(route.utterance))
        return hold if isinstance(hold, Failure) else _Speech(request, route, hold)

    async def _speak(self, speech: _Speech, stream: OutgoingStream) -> str:
        try:
            async with asyncio.timeout(self._settings.synth_speech_s):
                await self._send_audio(speech, stream)
        except (ProviderError, TimeoutError) as error:
            told = self._explain(speech, error)
            speech.code = told.code
            await stream.fail(told)
            return "provider_failed"
        units = speech.units_settled = await self._settle(speech, speech.charge, Outcome.COMPLETED)
        if units is None:
            speech.code = ErrorCode.QUOTA_UNAVAILABLE
            await stream.fail(failure(speech.code))
            return "unsettled"
        await stream.tail(units)
        return "completed"

    async def _send_audio(self, speech: _Speech, stream: OutgoingStream) -> None:
        provider, utterance = speech.route.provider, speech.route.utterance
        encoder = self._open_encoder(speech)
        spoken = False
        try:
            async with aclosing(provider.stream(utterance)) as chunks:
                while (chunk := await self._next(chunks, spoken=spoken)) is not None:
                    speech.billed_units = chunk.billed_units
                    spoken = spoken or bool(chunk.audio)
                    await self._send(speech, stream, await self._encode(encoder, chunk.audio))
            if spoken:
                # Without audio some formats would still have a header, which would pass for a whole.
                await self._send(speech, stream, await self._finish(encoder))
        finally:
            if encoder:
                encoder.close()
        if speech.first_audio_ms is None:
            raise ProviderError(ErrorClass.UPSTREAM, "The speech provider sent no audio.")

    async def _next(self, chunks: AsyncGenerator[Chunk], *, spoken: bool) -> Chunk | None:
        settings = self._settings
        async with asyncio.timeout(settings.synth_next_audio_s if spoken else settings.synth_first_audio_s):
            return await anext(chunks, None)

    async def _send(self, speech: _Speech, stream: OutgoingStream, audio: bytes) -> None:
        if not audio:
            return
        if speech.first_audio_ms is None:
            speech.first_audio_ms = int((time.monotonic() - speech.began) * 1000)
            _FIRST_AUDIO.labels(speech.route.provider.name).observe(speech.first_audio_ms / 1000)
            await stream.head(self._head(speech, speech.first_audio_ms))
        try:
            await stream.audio(audio)
        finally:
            speech.bytes_sent = stream.bytes_sent

    def _head(self, speech: _Speech, first_audio_ms: int) -> Head:
        return Head(
            provider=speech.route.provider.name,
            model=speech.request.model,
            voice=speech.route.utterance.voice,
            content_type=CONTENT_TYPES[speech.request.response_format],
            units_held=speech.hold.units,
            balances=speech.hold.balances,
            first_audio_ms=first_audio_ms,
        )

    def _open_encoder(self, speech: _Speech) -> Encoder | None:
        source = speech.route.provider.source_format(speech.route.utterance)
        if isinstance(source, Encoded):
            return None
        return open_encoder(
            speech.request.response_format,
            source_rate_hz=source.rate_hz,
            sample_rate_hz=speech.request.sample_rate_hz,
        )

    async def _encode(self, encoder: Encoder | None, audio: bytes) -> bytes:
        return await self._in_thread(lambda: encoder.feed(audio)) if encoder else audio

    async def _finish(self, encoder: Encoder | None) -> bytes:
        return await self._in_thread(encoder.finish) if encoder else b""

    async def _in_thread(self, work: Callable[[], bytes]) -> bytes:
        # Whoever is interrupted closes the encoder next; the thread must have left it by then.
        return await _see_through(asyncio.get_running_loop().run_in_executor(self._threads, work))

    def _explain(self, speech: _Speech, error: ProviderError | TimeoutError) -> Failure:
        log = structlog.get_logger().bind(provider=speech.route.provider.name)
        if isinstance(error, ProviderError):
            log.warning("the provider failed", error_class=error.error_class, detail=error.detail)
            return provider_failure(error)
        log.warning("the provider was too slow")
        return failure(ErrorCode.UPSTREAM_TIMEOUT)

    async def _conclude(self, speech: _Speech) -> None:
        """End the hold, unless it was settled already, and record how the speech went."""
        if speech.units_settled is None:
            speech.units_settled = await self._end_hold(speech)
        self._record(speech, speech.units_settled)

    async def _end_hold(self, speech: _Speech) -> int:
        if speech.outcome in _LEFT and speech.charge:
            return await self._settle(speech, speech.charge, Outcome.CLIENT_LEFT) or 0
        if speech.billed_units:
            return await self._settle(speech, 0, Outcome.WRITTEN_OFF) or 0
        await self._meter.release(speech.hold)
        return 0

    async def _settle(self, speech: _Speech, units: int, outcome: Outcome) -> int | None:
        message = Settle(
            hold_id=speech.hold.hold_id,
            units=units,
            outcome=outcome,
            provider=speech.route.provider.name,
            model=speech.request.model,
            voice=speech.route.utterance.voice,
            provider_units=speech.billed_units,
        )
        return await self._meter.settle(speech.hold, message)

    def _record(self, speech: _Speech, units_settled: int) -> None:
        _SPEECHES.labels(speech.route.provider.name, speech.outcome).inc()
        request = speech.request
        ended = Ended(
            received_at_ms=speech.began_ms,
            hold_id=speech.hold.hold_id,
            request_id=request.request_id,
            tenant_id=request.tenant_id,
            key_id=request.key_id,
            model=request.model,
            voice=speech.route.utterance.voice,
            response_format=request.response_format.value,
            provider=speech.route.provider.name,
            outcome=speech.outcome,
            code=speech.code,
            characters=len(request.input),
            units_held=speech.hold.units,
            units_settled=units_settled,
            provider_units=speech.billed_units,
            audio_bytes=speech.bytes_sent,
            first_audio_ms=speech.first_audio_ms,
            duration_ms=int((time.monotonic() - speech.began) * 1000),
        )
        self._log.add(ended)


async def _see_through(work: Awaitable[T]) -> T:
    """Wait until `work` has ended, also when cancelled meanwhile; the cancellation is raised after that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, so that a failure that nobody waits for any more is not reported as forgotten.
            task.exception()
        raise
