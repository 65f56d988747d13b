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
from contextlib import aclosing
from typing import Final

import msgspec
import structlog
from litestar.types import Receive, Scope, Send
from prometheus_client import Histogram

from odea_contracts import subjects
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID, CancelReason, Speak
from odea_gateway.clientwatch import ClientGoneError, ClientWatch
from odea_gateway.problems import problem
from odea_gateway.settings import GatewaySettings
from odea_gateway.trace import Trace, trace_of
from odea_runtime.bus import BusError
from odea_runtime.streams import RefusedError, StreamBrokenError, Streams

_PIECE_BYTES: Final = 16 * 1024
"""Audio is handed to the server in pieces of this size, so that a slow client is seen to take some of it."""
_FIRST_AUDIO = Histogram(
    "odea_speech_first_audio_seconds",
    "From the request to its first audio",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0),
)


class ClientStalledError(Exception):
    """The client took nothing for too long."""


class Speaker:
    """Turns requests to synth into answers over HTTP."""

    def __init__(self, streams: Streams, settings: GatewaySettings) -> None:
        self.streams: Final = streams
        self.settings: Final = settings
        self.buffered_bytes = 0
        """Held at the moment for clients who get their audio whole."""

    def answer(self, speak: Speak, *, events: bool) -> "SpeechAnswer":
        """The answer to `speak`: audio as it is, or as server-sent events."""
        return SpeechAnswer(self, speak, events=events)


class SpeechAnswer:
    """An ASGI application that asks synth and sends what comes.

    Raises `ProblemError` as long as nothing was sent.
    """

    def __init__(self, speaker: Speaker, speak: Speak, *, events: bool) -> None:
        self._speaker = speaker
        self._settings = speaker.settings
        self._speak = speak
        self._events = events
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        trace = trace_of(scope)
        whole = scope["http_version"] in {"1", "1.0"}
        try:
            async with ClientWatch(receive) as client:
                await self._relay(client, trace, send, whole=whole)
        except ClientGoneError:
            trace.outcome = "client_gone"
        except ClientStalledError:
            trace.outcome = "client_stalled"
        except (StreamBrokenError, RefusedError, BusError) as error:
            self._broken(trace, error)

    def _broken(self, trace: Trace, error: Exception) -> None:
        """Tell a client that has heard nothing yet why; one that has gets a cut body."""
        structlog.get_logger().warning("a speech broke", why=str(error), kind=type(error).__name__, begun=self._begun)
        if not self._begun:
            raise problem(ErrorCode.SYNTH_UNAVAILABLE) from error
        trace.outcome = "broken"

    async def _relay(self, client: ClientWatch, trace: Trace, send: Send, *, whole: bool) -> None:
        deadline_ms = int((time.time() + self._settings.head_s) * 1000)
        headers = {HEADER_REQUEST_ID: self._speak.request_id, HEADER_DEADLINE_MS: str(deadline_ms)}
        body = msgspec.json.encode(self._speak)
        async with self._speaker.streams.open(subjects.SYNTH_SPEAK, body, headers) as stream:
            try:
                head, audio = await self._opening(stream)
                async with aclosing(audio), asyncio.timeout(self._settings.speech_s):
                    first = await anext(audio)
                    await (self._send_whole if whole else self._send_live)(head, first, audio, stream, client, send)
            except asyncio.CancelledError:
                if client.gone:
                    await stream.cancel(CancelReason.CLIENT_GONE)
                raise
            except (ClientStalledError, TimeoutError):
                await stream.cancel(CancelReason.CLIENT_STALLED)
                raise ClientStalledError from None
