"""What each kind of server takes, and how it words what it refuses."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fakes.openai.behaviour import Kind

MODELS = {
    Kind.OPENAI: ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"),
    Kind.KOKORO: ("kokoro", "tts-1", "tts-1-hd"),
    Kind.SPEACHES: ("speaches-ai/Kokoro-82M-v1.0-ONNX",),
    Kind.ODEA: ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "minimax"),
}
VOICES = {
    Kind.OPENAI: [
        "alloy",
        "ash",
        "ballad",
        "coral",
        "echo",
        "fable",
        "onyx",
        "nova",
        "sage",
        "shimmer",
        "verse",
        "marin",
        "cedar",
    ],
    Kind.KOKORO: ["af_heart", "af_bella", "alloy"],
    Kind.SPEACHES: ["af_heart"],
    Kind.ODEA: ["alloy", "nova"],
}
Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


class VoiceId(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class Speech(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's own: its schema forbids other properties."""

    model: str
    input: Annotated[str, Meta(min_length=1, max_length=4096)]
    voice: str | VoiceId
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    response_format: Format = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"


class KokoroSpeech(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str = "kokoro"
    input: Annotated[str, Meta(min_length=1)]
    voice: str = "af_heart"
    response_format: Format = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    stream: bool = True
    lang_code: str | None = None
    volume_multiplier: float | None = None


class SpeachesSpeech(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    input: Annotated[str, Meta(min_length=1)]
    voice: str
    response_format: Format = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)] | None = None


class OdeaSpeech(Speech, forbid_unknown_fields=True, kw_only=True):
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)] | None = None
    minimax: dict[str, Any] | None = None


AnySpeech = Speech | KokoroSpeech | SpeachesSpeech
_TYPES: dict[Kind, type[AnySpeech]] = {
    Kind.OPENAI: Speech,
    Kind.KOKORO: KokoroSpeech,
    Kind.SPEACHES: SpeachesSpeech,
    Kind.ODEA: OdeaSpeech,
}


class RefusedError(Exception):
    """A status and the body that goes with it."""

    def __init__(self, status: int, body: dict[str, object]) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


def openai_error(text: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    """OpenAI's shape: all four keys are there."""
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def read(kind: Kind, body: bytes) -> AnySpeech:
    """The request; refused in the words of that kind of server.

    Raises:
        RefusedError: a bad field, an unknown model or voice.
    """
    try:
        asked = msgspec.json.decode(body, type=_TYPES[kind])
    except msgspec.DecodeError as error:
        raise _bad_field(kind, str(error)) from error
    if asked.model not in MODELS[kind]:
        raise _no_model(kind, asked.model)
    voice = asked.voice if isinstance(asked.voice, str) else asked.voice.id
    known = set(VOICES[kind])
    # Kokoro mixes voices by weight.
    parts = [part.partition("(")[0] for part in voice.replace("-", "+").split("+")] if kind is Kind.KOKORO else [voice]
    if not known.issuperset(parts):
        raise _no_voice(kind, voice)
    return asked


def _bad_field(kind: Kind, text: str) -> RefusedError:
    field = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else None
    if kind is Kind.SPEACHES or kind is Kind.KOKORO:
        # What FastAPI makes of it.
        return RefusedError(422, {"detail": [{"type": "value_error", "loc": ["body", field], "msg": text}]})
    return RefusedError(400, openai_error(text, "invalid_request_error", param=field))


def _no_model(kind: Kind, model: str) -> RefusedError:
    if kind is Kind.KOKORO:
        detail = {"error": "invalid_model", "message": f"Unsupported model: {model}", "type": "invalid_request_error"}
        return RefusedError(400, {"detail": detail})
    if kind is Kind.SPEACHES:
        return RefusedError(404, {"detail": f"Model '{model}' is not installed locally."})
    return RefusedError(404, openai_error("no such model", "invalid_request_error", "model_not_found"))


def _no_voice(kind: Kind, voice: str) -> RefusedError:
    if kind is Kind.KOKORO:
        detail = {"error": "validation_error", "message": f"Voice '{voice}' not found", "type": "invalid_request_error"}
        return RefusedError(400, {"detail": detail})
    if kind is Kind.SPEACHES:
        return RefusedError(422, {"detail": [{"type": "value_error", "loc": ["body", "voice"], "msg": "unknown"}]})
    code = "voice_not_found" if kind is Kind.ODEA else None
    return RefusedError(400, openai_error("no such voice", "invalid_request_error", code, "voice"))
