"""How audio is put into a body: bare, or as OpenAI's server-sent events.

Beside OpenAI's own events there is `speech.audio.timestamps`, for whoever asked. Its `word` and times in seconds are
what other speech servers call them.
"""

import base64
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from odea_contracts.synth import CONTENT_TYPES, AudioFormat, Head, Timing
from odea_gateway.speech import StreamFormat
from odea_gateway.wav import with_true_sizes


class Wrapping(Protocol):
    """Turns pieces of audio into pieces of a body."""

    def content_type(self, head: Head) -> str:
        """The type of the body."""
        ...

    def wrap(self, audio: bytes) -> bytes:
        """One piece."""
        ...

    def time(self, timings: Sequence[Timing]) -> bytes:
        """When words are heard; nothing where there is no place for that."""
        ...

    def end(self, units: int) -> bytes:
        """What follows the last piece of a speech that was charged `units`."""
        ...

    def whole(self, head: Head, body: bytes) -> bytes:
        """`body`, now that it is known to its end."""
        ...


class _Bare:
    def content_type(self, head: Head) -> str:
        return head.content_type

    def wrap(self, audio: bytes) -> bytes:
        return audio

    def time(self, timings: Sequence[Timing]) -> bytes:  # noqa: ARG002 - the protocol's
        return b""

    def end(self, units: int) -> bytes:  # noqa: ARG002 - the protocol's
        return b""

    def whole(self, head: Head, body: bytes) -> bytes:
        return with_true_sizes(body) if head.content_type == CONTENT_TYPES[AudioFormat.WAV] else body


class TimestampView(Struct, frozen=True, kw_only=True):
    """When one word, or one sentence, is heard; in seconds from the beginning of the audio."""

    word: str
    start_time: float
    end_time: float


class TimestampsEvent(Struct, frozen=True, kw_only=True):
    """The event that tells when words are heard. They follow each other, also from one event to the next."""

    timestamps: tuple[TimestampView, ...]
    type: str = "speech.audio.timestamps"


class _Events:
    """`speech.audio.delta` for each piece, then `speech.audio.done` with the usage.

    OpenAI counts tokens; here `input_tokens` and `total_tokens` are the charged characters, and audio costs nothing.
    """

    def content_type(self, head: Head) -> str:  # noqa: ARG002 - the protocol's
        return "text/event-stream; charset=utf-8"

    def wrap(self, audio: bytes) -> bytes:
        return b'data: {"type":"speech.audio.delta","audio":"' + base64.b64encode(audio) + b'"}\n\n'

    def time(self, timings: Sequence[Timing]) -> bytes:
        views = tuple(
            TimestampView(word=each.word, start_time=each.start_ms / 1000, end_time=each.end_ms / 1000)
            for each in timings
        )
        return b"data: " + msgspec.json.encode(TimestampsEvent(timestamps=views)) + b"\n\n"

    def whole(self, head: Head, body: bytes) -> bytes:  # noqa: ARG002 - the protocol's
        return body

    def end(self, units: int) -> bytes:
        usage = f'{{"input_tokens":{units},"output_tokens":0,"total_tokens":{units}}}'
        return f'data: {{"type":"speech.audio.done","usage":{usage}}}\n\n'.encode()


WRAPPINGS: Final[dict[StreamFormat, Wrapping]] = {StreamFormat.AUDIO: _Bare(), StreamFormat.SSE: _Events()}
