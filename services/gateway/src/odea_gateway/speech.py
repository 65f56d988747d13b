"""A speech request: OpenAI's fields, what they may hold, and what is asked of synth in the end.

Unknown fields are ignored, as clients send fields of other servers. A field that may be left out may also be `null`.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from odea_contracts.base import Name
from odea_contracts.errors import ErrorCode
from odea_contracts.keys import Principal
from odea_contracts.minimax import MiniMax
from odea_contracts.synth import AudioFormat, Speak, TimestampKind
from odea_gateway.problems import problem
from odea_gateway.settings import INSTRUCTIONS_CHARS_MAX, GatewaySettings
from odea_gateway.text import clean


class StreamFormat(StrEnum):
    """How audio is sent."""

    AUDIO = "audio"
    """The bytes of the format that was asked for."""
    SSE = "sse"
    """Server-sent events, each with a piece of those bytes in base64."""


class VoiceReference(Struct, frozen=True, kw_only=True):
    """A voice as an object, the way OpenAI names custom voices."""

    id: Name


class SpeechRequest(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/audio/speech`."""

    model: Annotated[Name, Meta(description="A model from `GET /v1/models`", examples=["tts-1"])]
    input: Annotated[str, Meta(description="The text to speak", examples=["Hello from Odea."])]
    voice: Annotated[
        Name | VoiceReference, Meta(description="A voice from `GET /v1/audio/voices`, by its id", examples=["alloy"])
    ]
    response_format: AudioFormat | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] | None = None
    instructions: (
        Annotated[str, Meta(description="How to speak; models that take no instructions ignore it")] | None
    ) = None
    stream_format: StreamFormat | None = None
    sample_rate: (
        Annotated[int, Meta(ge=8000, le=48000, description="In hertz; an extension of OpenAI's request")] | None
    ) = None

    timestamps: (
        Annotated[
            TimestampKind,
            Meta(description="Tell when each word or sentence is heard, with `stream_format` `sse`; an extension"),
        ]
        | None
    ) = None
    minimax: (
        Annotated[
            MiniMax, Meta(description="What MiniMax alone can do, under its own names; ignored by other providers")
        ]
        | None
    ) = None


DECODER: Final = msgspec.json.Decoder(SpeechRequest)
HINTS: Final = {
    "response_format": "one of " + ", ".join(AudioFormat),
    "stream_format": "one of " + ", ".join(StreamFormat),
    "timestamps": "one of " + ", ".join(TimestampKind),
    "speed": "a number from 0.25 to 4.0",
    "sample_rate": "a whole number from 8000 to 48000",
    "model": "a name without control characters",
    "voice": "a name without control characters",
    "voice.id": "a name without control characters",
}


def to_speak(request: SpeechRequest, principal: Principal, request_id: str, settings: GatewaySettings) -> Speak:
    """What synth is asked for: the same request, its text clean and within its limit.

    Raises:
        ProblemError: there is no text, or too much, or fields do not go together.
    """
    if request.timestamps and request.stream_format is not StreamFormat.SSE:
        raise problem(
            ErrorCode.INVALID_VALUE,
            "'timestamps' can be told only where 'stream_format' is 'sse'.",
            param="timestamps",
        )
    text = _cleaned(request.input, "input", settings.text_chars_max)
    if not text.strip():
        raise problem(ErrorCode.EMPTY_INPUT, param="input")
    instructions = _cleaned(request.instructions or "", "instructions", INSTRUCTIONS_CHARS_MAX)
    voice = request.voice
    return Speak(
        request_id=request_id,
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        accounts=principal.accounts,
        model=request.model,
        voice=voice.id if isinstance(voice, VoiceReference) else voice,
        input=text,
        response_format=request.response_format or AudioFormat.MP3,
        speed=1.0 if request.speed is None else request.speed,
        instructions=instructions.strip() or None,
        sample_rate_hz=request.sample_rate,
        timestamps=request.timestamps,
        minimax=request.minimax,
        credits=settings.stream_window_frames,
    )


def _cleaned(text: str, param: str, chars_max: int) -> str:
    text = clean(text)
    if len(text) > chars_max:
        message = f"'{param}' must not be longer than {chars_max} characters; it has {len(text)}."
        raise problem(ErrorCode.INPUT_TOO_LONG, message, param=param)
    return text
