"""One speech from request to tail: hold, speak, encode, send, charge. What it costs follows from how it ends (P2).

| How it ends | What happens to the hold |
|---|---|
| whole | settled with what the provider billed, before the tail is sent |
| refused or failed before the first audio | released |
| cut in mid-stream by us or the provider | settled with nothing: written off |
| the caller left, or stalled until the gateway gave up | settled with what the provider billed until then |
| the gateway died or broke the stream | written off |
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter, Histogram

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Outcome, Settle
from odea_contracts.synth import CONTENT_TYPES, CancelReason, Head, Speak
from odea_runtime.streams import CancelledByReceiverError, OutgoingStream, Streams
from odea_synth.audio import Encoder, open_encoder, sample_rate_for
from odea_synth.metering import Hold, Meter
from odea_synth.providers.base import Chunk, Encoded, ErrorClass, ProviderError
from odea_synth.request_log import Ended, RequestLog
from odea_synth.settings import SynthSettings
from odea_synth.synthesis import Catalogue, Route, provider_failure

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
        try:
            async with self._streams.send(receiver, request.credits) as stream:
                begun = await self._begin(request)
                if isinstance(begun, Failure):
                    _SPEECHES.labels("", begun.code).inc()
                    await stream.fail(begun)
                    return
                speech = begun
                await self._speak(speech, stream)
        except CancelledByReceiverError as cancelled:
            if speech:
                await self._end_cancelled(speech, cancelled.reason)
        except asyncio.CancelledError:
            # The process is going down. One short attempt; if it fails, the lease ends the hold.
            if speech:
                await asyncio.shield(self._write_off(speech, "shutdown"))
            raise

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

    async def _speak(self, speech: _Speech, stream: OutgoingStream) -> None:
        try:
            await self._send_audio(speech, stream)
        except (ProviderError, TimeoutError) as error:
            await stream.fail(self._explain(speech, error))
            await self._end_failed(speech, "provider_failed")
        except Exception:  # noqa: BLE001 - a fault of ours must still end the hold and the stream
            structlog.get_logger().exception("speech failed")
            await stream.fail(failure(ErrorCode.INTERNAL_ERROR))
            await self._end_failed(speech, "fault")
        else:
            await self._end_whole(speech, stream)

    async def _send_audio(self, speech: _Speech, stream: OutgoingStream) -> None:
        provider, utterance = speech.route.provider, speech.route.utterance
        encoder = await self._open_encoder(speech)
        try:
            async with aclosing(provider.stream(utterance)) as chunks:
                async for chunk in self._in_time(chunks):
                    speech.billed_units = chunk.billed_units
                    await self._send(speech, stream, await self._encode(encoder, chunk.audio))
            await self._send(speech, stream, await self._finish(encoder))
        finally:
            if encoder:
                encoder.close()
        if speech.first_audio_ms is None:
            raise ProviderError(ErrorClass.UPSTREAM, "The speech provider sent no audio.")

    async def _in_time(self, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
        patience_s = self._settings.synth_first_audio_s
        while True:
            async with asyncio.timeout(patience_s):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk
            patience_s = self._settings.synth_next_audio_s

    async def _send(self, speech: _Speech, stream: OutgoingStream, audio: bytes) -> None:
        if not audio:
            return
        if speech.first_audio_ms is None:
            speech.first_audio_ms = int((time.monotonic() - speech.began) * 1000)
            _FIRST_AUDIO.labels(speech.route.provider.name).observe(speech.first_audio_ms / 1000)
            await stream.head(self._head(speech, speech.first_audio_ms))
        await stream.audio(audio)
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

    async def _open_encoder(self, speech: _Speech) -> Encoder | None:
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
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The encoder is about to be closed; the thread must have left it by then.
            await asyncio.wait([future])
            raise

    def _explain(self, speech: _Speech, error: ProviderError | TimeoutError) -> Failure:
        log = structlog.get_logger().bind(provider=speech.route.provider.name)
        if isinstance(error, ProviderError):
            log.warning("the provider failed", error_class=error.error_class, detail=error.detail)
            return provider_failure(error)
        log.warning("the provider was too slow")
        return failure(ErrorCode.UPSTREAM_TIMEOUT)

    async def _end_whole(self, speech: _Speech, stream: OutgoingStream) -> None:
        units = await self._settle(speech, speech.charge, Outcome.COMPLETED)
        if units is None:
            await stream.fail(failure(ErrorCode.QUOTA_UNAVAILABLE))
            self._record(speech, "unsettled", 0)
            return
        await stream.tail(units)
        self._record(speech, "completed", units)

    async def _end_failed(self, speech: _Speech, outcome: str) -> None:
        if speech.first_audio_ms is None:
            await self._meter.release(speech.hold)
            self._record(speech, outcome, 0)
        else:
            await self._write_off(speech, outcome)

    async def _end_cancelled(self, speech: _Speech, reason: CancelReason | None) -> None:
        if reason and reason in _LEFT and speech.charge:
            units = await self._settle(speech, speech.charge, Outcome.CLIENT_LEFT)
            self._record(speech, reason.value, units or 0)
        else:
            await self._write_off(speech, reason.value if reason else "receiver_silent")

    async def _write_off(self, speech: _Speech, outcome: str) -> None:
        if speech.billed_units:
            await self._settle(speech, 0, Outcome.WRITTEN_OFF)
        else:
            await self._meter.release(speech.hold)
        self._record(speech, outcome, 0)

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

    def _record(self, speech: _Speech, outcome: str, units_settled: int) -> None:
        _SPEECHES.labels(speech.route.provider.name, outcome).inc()
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
            outcome=outcome,
            characters=len(request.input),
            units_held=speech.hold.units,
            units_settled=units_settled,
            provider_units=speech.billed_units,
            audio_bytes=speech.bytes_sent,
            first_audio_ms=speech.first_audio_ms,
            duration_ms=int((time.monotonic() - speech.began) * 1000),
        )
        self._log.add(ended)
