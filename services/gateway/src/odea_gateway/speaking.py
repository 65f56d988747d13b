"""From the audio stream on the bus to the body of an answer, whole or visibly broken (P4).

Status and headers are sent with the first audio. When a stream breaks after that, the application returns without its
last message: Granian then closes the connection without the terminating chunk, so that curl ends with exit status 18,
`http.client` and httpx raise, and so does the OpenAI SDK. An HTTP/1.0 client could not tell that from a whole body; it
gets a buffered answer with its length, or an error.

A client that leaves is told to synth at once, before the first audio too. One that takes nothing for a while is given
up; the connection that hangs on it is closed by the kernel (see `server`). Both are charged what was made (P2).
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec
import structlog
from litestar.types import Receive, Scope, Send
from prometheus_client import Histogram

from odea_contracts import subjects
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID, CancelReason, Head, Speak, Timings
from odea_gateway.clientwatch import ClientGoneError, ClientWatch
from odea_gateway.delivery import Budget, ClientStalledError, Delivery, LiveDelivery, WholeDelivery
from odea_gateway.problems import ProblemError, problem
from odea_gateway.settings import GatewaySettings
from odea_gateway.speech import StreamFormat
from odea_gateway.trace import Trace, trace_of
from odea_gateway.wrapping import WRAPPINGS
from odea_runtime.bus import BusError
from odea_runtime.patience import within
from odea_runtime.streams import IncomingStream, RefusedError, StreamBrokenError, Streams

_log = structlog.get_logger()
_FIRST_AUDIO: Final = Histogram(
    "odea_speech_first_audio_seconds",
    "From the request to its first audio",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0),
)


class Speaker:
    """Turns requests to synth into answers over HTTP."""

    def __init__(self, streams: Streams, settings: GatewaySettings) -> None:
        self.streams: Final = streams
        self.settings: Final = settings
        self.budget: Final = Budget(settings.buffered_bytes_max)

    def answer(self, speak: Speak, stream_format: StreamFormat) -> "SpeechAnswer":
        """The answer to `speak`."""
        return SpeechAnswer(self, speak, stream_format)


class SpeechAnswer:
    """An ASGI application that asks synth and sends what comes. Raises `ProblemError` while nothing has been sent."""

    def __init__(self, speaker: Speaker, speak: Speak, stream_format: StreamFormat) -> None:
        self._speaker = speaker
        self._settings = speaker.settings
        self._speak = speak
        self._wrapping = WRAPPINGS[stream_format]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        trace = trace_of(scope)
        if scope.get("http_version") not in {"1", "1.0"}:
            await self._serve(LiveDelivery(send, self._wrapping, trace, self._settings.client_stall_s), receive, trace)
            return
        whole = WholeDelivery(send, self._wrapping, trace, self._speaker.budget)
        try:
            await self._serve(whole, receive, trace)
        finally:
            whole.close()

    async def _serve(self, delivery: Delivery, receive: Receive, trace: Trace) -> None:
        try:
            async with ClientWatch(receive) as client:
                await self._relay(delivery, client, trace)
        except ClientGoneError:
            trace.outcome = "client_gone"
        except ClientStalledError:
            trace.outcome = "client_stalled"
        except (RefusedError, StreamBrokenError, BusError) as error:
            if isinstance(error, RefusedError) and not delivery.begun:
                raise ProblemError(error.failure) from error
            _log.warning("a speech broke", why=repr(error), begun=delivery.begun)
            if not delivery.begun:
                raise problem(ErrorCode.SYNTH_UNAVAILABLE) from error
            trace.outcome = "broken"

    async def _relay(self, delivery: Delivery, client: ClientWatch, trace: Trace) -> None:
        deadline_ms = int((time.time() + self._settings.head_s) * 1000)
        headers = {HEADER_REQUEST_ID: self._speak.request_id, HEADER_DEADLINE_MS: str(deadline_ms)}
        body = msgspec.json.encode(self._speak)
        async with self._speaker.streams.open(subjects.SYNTH_SPEAK, body, headers) as stream:
            try:
                async with aclosing(stream.parts()) as parts:
                    head, first = await self._opening(stream, parts)
                    _FIRST_AUDIO.observe(time.perf_counter() - trace.began)
                    with within(self._settings.speech_s):
                        await delivery.begin(head)
                        await delivery.audio(first)
                        async for part in parts:
                            if isinstance(part, bytes):
                                await delivery.audio(part)
                            else:
                                await delivery.timings(part)
                client.release()
                assert stream.tail is not None
                # Left in good order after this, the stream gives synth the receipt that the charge needs.
                await delivery.end(stream.tail)
            except asyncio.CancelledError:
                if client.gone:
                    await stream.cancel(CancelReason.CLIENT_GONE)
                raise
            except ClientStalledError:
                await stream.cancel(CancelReason.CLIENT_STALLED)
                raise
            except TimeoutError:
                # Our own limit cuts what the client takes as it should, so it is not the client who pays (P2).
                await stream.cancel(CancelReason.RECEIVER_FAULT)
                raise StreamBrokenError("the speech took too long") from None

    async def _opening(self, stream: IncomingStream, parts: AsyncGenerator[bytes | Timings]) -> tuple[Head, bytes]:
        """The head and the first audio."""
        try:
            with within(self._settings.head_s):
                head = await stream.head()
                first = await anext(parts, None)
        except TimeoutError:
            raise problem(ErrorCode.DEADLINE_EXCEEDED) from None
        if not isinstance(first, bytes):
            raise StreamBrokenError("there was a head and no audio")
        return head, first
