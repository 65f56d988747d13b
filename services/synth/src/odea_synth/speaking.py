"""One speech from request to tail: hold, ask, encode, send, charge. What it costs follows from how it ends (P2).

| How it ends | What happens to the hold |
|---|---|
| whole | settled with what the provider billed, before the tail is sent; kept when the receipt for it comes |
| settled, and no receipt for the tail | the charge is taken back: written off |
| refused or failed before the provider billed anything | released |
| cut by us or the provider | written off |
| the caller left, or stalled until the gateway gave up | settled with what the provider billed until then |
| the same, while a speech that was cut is tidied up | written off: it was cut before |
| the gateway died or broke the stream | written off |

The receiver can interrupt a speech until its stream is left, and only then is the hold ended: how a speech ends is
decided once, and nothing that comes later changes it or keeps its hold open.
"""

import asyncio
import time
from contextlib import ExitStack, aclosing
from functools import partial

import structlog
from prometheus_client import Counter, Histogram

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Outcome, Settle
from odea_contracts.synth import CONTENT_TYPES, Head, Speak
from odea_contracts.writeoffs import WriteOff
from odea_runtime.counting import by_labels
from odea_runtime.patience import within
from odea_runtime.streams import CancelledByReceiverError, OutgoingStream, Receiver, Streams
from odea_synth.announcer import Announcer
from odea_synth.attempts import NoAudioError, Opener, came_upon_failure
from odea_synth.audio import sample_rate_for
from odea_synth.metering import Meter
from odea_synth.opened import Opened
from odea_synth.providers.base import Chunk, ErrorClass, ProviderError
from odea_synth.request_log import RequestLog, refused
from odea_synth.routing.switchboard import Routing, Switchboard
from odea_synth.settings import SynthSettings
from odea_synth.speech import COMPLETED, LEFT, Speech
from odea_synth.synthesis import able_of, provider_failure
from odea_synth.transcoding import Transcoder, see_through

_FAILED = "provider_failed"
_UNSETTLED = "unsettled"
_FAULT = "fault"
_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)

_SPEECHES = Counter("odea_synth_speeches_total", "Speeches, by how they ended", ["provider", "outcome"])
_FIRST_AUDIO = Histogram(
    "odea_synth_first_audio_seconds", "From request to first audio", ["provider"], buckets=_BUCKETS
)
_speeches = by_labels(_SPEECHES)
_first_audio = by_labels(_FIRST_AUDIO)


class Speaker:
    """Speaks requests, many at a time.

    Args:
        switchboard: who can be asked now.
        meter: holds and charges.
        streams: where audio goes.
        settings: time limits, and how many threads encode.
        log: where every request is written down.
        announcer: who is told of every speech.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        meter: Meter,
        streams: Streams,
        settings: SynthSettings,
        *,
        log: RequestLog,
        announcer: Announcer,
    ) -> None:
        self._switchboard = switchboard
        self._meter = meter
        self._streams = streams
        self._log = log
        self._announcer = announcer
        self._settings = settings
        self._transcoder = Transcoder(settings.synth_encoder_threads)

    async def speak(self, request: Speak, receiver: Receiver) -> None:
        """Answer `request` with a stream to `receiver`. Every end is accounted for; only cancellation is raised."""
        speech: Speech | None = None
        began_ms = time.time_ns() // 1_000_000
        waits_s = min(receiver.waits_s or self._settings.synth_opening_s, self._settings.synth_opening_s)
        until = time.monotonic() + waits_s
        routing = self._switchboard.routing
        try:
            async with self._streams.send(receiver, request.credits) as stream:
                try:
                    begun = await self._begin(request, stream, routing)
                    if isinstance(begun, Failure):
                        _speeches("", begun.code).inc()
                        self._log.add(refused(request, begun, began_ms))
                        await stream.fail(begun)
                        return
                    speech = begun
                    speech.outcome = await self._speak(speech, stream, routing, until)
                except Exception:  # noqa: BLE001 - a fault of ours must still end the stream and the hold
                    if speech:
                        speech.cut = _FAULT
                    structlog.get_logger().exception("speech failed")
                    await stream.fail(failure(ErrorCode.INTERNAL_ERROR))
        except CancelledByReceiverError as cancelled:
            if speech:
                speech.outcome = speech.cut or cancelled.reason or "receiver_silent"
        except asyncio.CancelledError:
            if speech:
                speech.outcome = "shutdown"
            raise
        finally:
            if speech:
                await self._conclude(speech)

    def close(self) -> None:
        """End the encoder threads."""
        self._transcoder.close()

    async def _begin(self, request: Speak, stream: OutgoingStream, routing: Routing) -> Speech | Failure:
        """Everything that can refuse before a provider is called."""
        routes = routing.catalogue.routes(request)
        if isinstance(routes, Failure):
            return routes
        try:
            sample_rate_for(request.response_format, request.sample_rate_hz)
        except ValueError as error:
            return failure(ErrorCode.INVALID_VALUE, str(error), param="sample_rate")
        routes = able_of(routes)
        if isinstance(routes, Failure):
            return routes
        await stream.assure()
        hold = await self._meter.reserve(request, routes[0].provider.bound_units(routes[0].utterance))
        return hold if isinstance(hold, Failure) else Speech(request=request, routes=routes, hold=hold)

    async def _speak(self, speech: Speech, stream: OutgoingStream, routing: Routing, until: float) -> str:
        limit = within(self._settings.synth_speech_s)
        try:
            with limit:
                await self._send_speech(speech, stream, routing, until)
        except (ProviderError, NoAudioError, TimeoutError) as error:
            speech.cut = _FAILED
            told = self._explain(speech, error)
            speech.code = told.code
            await stream.fail(told)
            return _FAILED
        except asyncio.CancelledError as interrupted:
            if limit.expired or came_upon_failure(interrupted):
                speech.cut = _FAILED
            raise
        units = speech.units_settled = await self._settle(speech, speech.charge, Outcome.COMPLETED)
        if units is None:
            speech.cut, speech.code = _UNSETTLED, ErrorCode.QUOTA_UNAVAILABLE
            await stream.fail(failure(speech.code))
            return _UNSETTLED
        await stream.tail(units)
        try:
            await stream.receipt()
        except TimeoutError:
            return "unconfirmed"
        return COMPLETED

    async def _send_speech(self, speech: Speech, stream: OutgoingStream, routing: Routing, until: float) -> None:
        raise_hold = partial(self._meter.raise_hold, speech.hold)
        opener = Opener(
            routing.lines, speech.request.tenant_id, until=until, raise_hold=raise_hold, assure=stream.assure
        )
        speech.story = opener.story
        with ExitStack() as lines:
            for name in {route.provider.name for route in speech.routes}:
                lines.enter_context(routing.lines[name].used())
            async with opener.open(speech.routes, speech.hold.units) as opened:
                speech.route, speech.fallback = opened.route, opened.fallback
                await self._send_audio(speech, stream, opened)

    async def _send_audio(self, speech: Speech, stream: OutgoingStream, opened: Opened) -> None:
        utterance = opened.route.utterance
        source = opened.route.provider.source_format(utterance)
        async with (
            self._transcoder.open(source, utterance) as transcoding,
            aclosing(opened.chunks()) as chunks,
        ):
            async for chunk in chunks:
                speech.billed_units = chunk.billed_units
                await self._send(speech, stream, await transcoding.feed(chunk.audio), chunk)
            await self._send(speech, stream, await transcoding.finish())
        if speech.first_audio_ms is None:
            raise ProviderError(ErrorClass.UPSTREAM, "The speech provider sent no audio.")

    async def _send(self, speech: Speech, stream: OutgoingStream, audio: bytes, chunk: Chunk | None = None) -> None:
        if chunk:
            speech.timings.extend(chunk.timings)
        if audio:
            if speech.first_audio_ms is None:
                speech.first_audio_ms = int((time.monotonic() - speech.began) * 1000)
                _first_audio(speech.route.provider.name).observe(speech.first_audio_ms / 1000)
                await stream.head(self._head(speech, speech.first_audio_ms))
            try:
                await stream.audio(audio)
            finally:
                speech.bytes_sent = stream.bytes_sent
        if speech.timings and speech.first_audio_ms is not None:
            timings, speech.timings = speech.timings, []
            await stream.timings(timings)

    def _head(self, speech: Speech, first_audio_ms: int) -> Head:
        return Head(
            provider=speech.route.provider.name,
            model=speech.request.model,
            voice=speech.route.utterance.voice,
            content_type=CONTENT_TYPES[speech.request.response_format],
            units_held=speech.hold.units,
            balances=speech.hold.balances,
            first_audio_ms=first_audio_ms,
            fallback=speech.fallback,
        )

    def _explain(self, speech: Speech, error: ProviderError | NoAudioError | TimeoutError) -> Failure:
        if isinstance(error, NoAudioError):
            return error.failure
        log = structlog.get_logger().bind(provider=speech.route.provider.name)
        if isinstance(error, ProviderError):
            speech.billed_units = max(speech.billed_units, error.billed_units)
            log.warning(
                "the provider failed in the middle",
                error_class=error.error_class,
                detail=error.detail,
                trace_id=error.trace_id,
            )
            return provider_failure(error)
        log.warning("a speech took too long")
        return failure(ErrorCode.UPSTREAM_TIMEOUT)

    async def _conclude(self, speech: Speech) -> None:
        try:
            if not speech.stands:
                await see_through(self._end(speech))
        finally:
            self._record(speech)

    async def _end(self, speech: Speech) -> None:
        """End the hold, or take back the charge for a speech that did not arrive."""
        speech.include_unheard()
        if speech.units_settled is None:
            speech.units_settled = await self._end_hold(speech)
        elif speech.units_settled:
            speech.units_settled = await self._write_off(speech)

    def _record(self, speech: Speech) -> None:
        """Note how it went."""
        units = speech.units_settled or 0
        if units:
            self._meter.lose(speech.story.lost_units)
        _speeches(speech.route.provider.name, speech.outcome).inc()
        self._log.add(speech.entry(units))
        self._announcer.ended(speech.event(units))

    async def _end_hold(self, speech: Speech) -> int:
        if speech.outcome in LEFT and speech.charge:
            return await self._settle(speech, speech.charge, Outcome.CLIENT_LEFT) or 0
        if speech.cost_units:
            # Not a settlement with nothing: one with units may have been written before it, unheard of.
            return await self._write_off(speech)
        await self._meter.release(speech.hold)
        return 0

    async def _settle(self, speech: Speech, units: int, outcome: Outcome) -> int | None:
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

    async def _write_off(self, speech: Speech) -> int:
        message = WriteOff(
            hold_id=speech.hold.hold_id,
            provider=speech.route.provider.name,
            model=speech.request.model,
            voice=speech.route.utterance.voice,
            # Nobody is charged for attempts that failed; they are listed with what is written off.
            provider_units=speech.cost_units,
        )
        return await self._meter.write_off(speech.hold, message, charged=speech.units_settled or 0)
