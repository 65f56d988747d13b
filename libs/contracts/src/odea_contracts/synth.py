"""Speech on the bus: the request, the frames of the audio stream, and what can be asked about voices and models.

`speak` is answered by a stream in the caller's inbox, not by one reply. Frames carry `Odea-Frame` and, where order
matters, `Odea-Seq`; the caller steers with `Control` messages to the subject that each frame's reply field names.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from odea_contracts import subjects
from odea_contracts.base import Endpoint, Id, Message, Milliseconds, Name, RequestId, Units
from odea_contracts.errors import Failure
from odea_contracts.minimax import MiniMax
from odea_contracts.quota import Balance

HEADER_FRAME: Final = "Odea-Frame"
HEADER_SEQ: Final = "Odea-Seq"
HEADER_REQUEST_ID: Final = "Odea-Request-Id"
HEADER_DEADLINE_MS: Final = "Odea-Deadline-Ms"
HEADER_SENT_MS: Final = "Odea-Sent-Ms"
HEADER_TRACEPARENT: Final = "traceparent"
FRAME_BYTES_MAX: Final = 64 * 1024
TIMINGS_MAX: Final = 64
TIMED_CHARS_MAX: Final = 1000
"""So that a frame of timings stays far below what NATS takes, however its words have to be escaped."""


class AudioFormat(StrEnum):
    """The formats of OpenAI's speech endpoint."""

    MP3 = "mp3"
    OPUS = "opus"
    AAC = "aac"
    FLAC = "flac"
    WAV = "wav"
    PCM = "pcm"


CONTENT_TYPES: Mapping[AudioFormat, str] = MappingProxyType(
    {
        AudioFormat.MP3: "audio/mpeg",
        AudioFormat.OPUS: "audio/opus",
        AudioFormat.AAC: "audio/aac",
        AudioFormat.FLAC: "audio/flac",
        AudioFormat.WAV: "audio/wav",
        AudioFormat.PCM: "audio/pcm",
    }
)


class TimestampKind(StrEnum):
    """What is timed."""

    WORD = "word"
    SENTENCE = "sentence"


class Speak(Message):
    """Say a text. Whoever sends it is metered: synth reserves from `accounts` before it calls a provider.

    Attributes:
        input: clean text; it is never interpreted as markup, unless `minimax.markup` asks for that.
        timestamps: what to tell the times of; refused by a provider that does not know them.
        minimax: wishes that only MiniMax can fulfil; other providers leave them alone.
        credits: audio frames that synth may send before the first credit comes.
    """

    request_id: RequestId
    tenant_id: Id
    key_id: Id
    accounts: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=2)]
    model: Name
    voice: Name
    input: Annotated[str, Meta(min_length=1, max_length=100_000)]
    response_format: AudioFormat = AudioFormat.MP3
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.0
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    sample_rate_hz: Annotated[int, Meta(ge=8000, le=48000)] | None = None
    timestamps: TimestampKind | None = None
    minimax: MiniMax | None = None
    credits: Annotated[int, Meta(ge=1, le=1024)] = 16


class Frame(StrEnum):
    """The kinds of message in an audio stream, in `Odea-Frame`."""

    HEAD = "head"
    AUDIO = "audio"
    TIMINGS = "timings"
    """When which words are heard, for whoever asked. In the same numbering as audio, and needs credit as it does."""
    BEAT = "beat"
    """The sender lives but has no audio yet. Carries no number and needs no credit."""
    TAIL = "tail"
    FAIL = "fail"


class Head(Message):
    """The first frame: the provider's first audio is in hand and the hold is written."""

    provider: str
    model: str
    voice: str
    content_type: str
    units_held: Units
    balances: tuple[Balance, ...]
    first_audio_ms: Milliseconds
    """How long the provider took to its first audio."""
    fallback: bool = False


class Timing(Message):
    """When a word, or a sentence if those were asked for, is heard; from the beginning of the audio."""

    word: Annotated[str, Meta(max_length=TIMED_CHARS_MAX)]
    start_ms: Milliseconds
    end_ms: Milliseconds


class Timings(Message):
    """The body of a frame that says when words are heard; they follow each other."""

    timings: Annotated[tuple[Timing, ...], Meta(min_length=1, max_length=TIMINGS_MAX)]


class Tail(Message):
    """The last frame of a whole stream; it is sent after the charge is durable.

    Attributes:
        frames: how many were numbered, those with timings among them.
        bytes: of the audio alone, as the digest.
    """

    frames: int
    bytes: int
    sha256: str
    units: Units


class Credit(Message, tag_field="type", tag="credit"):
    """The receiver has consumed every audio frame up to `through`; repeated at intervals as a sign of life."""

    through: int


class CancelReason(StrEnum):
    """Why a receiver ends a stream early. Only the first two are charged (P2)."""

    CLIENT_GONE = "client_gone"
    CLIENT_STALLED = "client_stalled"
    RECEIVER_FAULT = "receiver_fault"


class Cancel(Message, tag_field="type", tag="cancel"):
    """The receiver wants no more."""

    reason: CancelReason


class Receipt(Message, tag_field="type", tag="receipt"):
    """The receiver has handed the end of the stream to whomever it serves. Without one nothing is charged (P2)."""


Control: TypeAlias = Credit | Cancel | Receipt


class Voice(Message):
    """A voice that clients can name."""

    id: str
    name: str
    language: str | None = None
    provider: str | None = None
    preview_url: str | None = None


class Voices(Message):
    """Ask for the voices of a model, or of all."""

    model: Name | None = None


class VoiceList(Message, tag_field="type", tag="voices"):
    """The voices that can be named."""

    voices: tuple[Voice, ...]


class Model(Message):
    """A model name that clients can use."""

    id: str
    created_at_ms: Milliseconds
    owned_by: str


class Models(Message):
    """Ask for the models."""


class ModelList(Message, tag_field="type", tag="models"):
    """The models that can be named."""

    models: tuple[Model, ...]


class BreakerState(StrEnum):
    """Whether a provider is called."""

    CLOSED = "closed"
    """It is."""
    OPEN = "open"
    """It failed, and is left alone for a while."""
    HALF_OPEN = "half_open"
    """One speech at a time tries whether it is well again."""


class BreakerChanged(Message):
    """The body of `synth.evt.breaker_changed`: one replica's opinion of a provider is another now."""

    provider: str
    before: BreakerState
    state: BreakerState
    at_ms: Milliseconds


class SpeechEvent(Message):
    """The body of `synth.evt.completed` and `failed`: how a speech ended. Neither the text nor the audio.

    Attributes:
        outcome: as in the request log: `completed`, or why it was not.
        attempts: how often a provider was asked.
        fallback: another provider than the first spoke.
        units: what was charged.
        first_audio_ms: from the request to the first audio, if there was any.
    """

    request_id: RequestId
    tenant_id: Id
    key_id: Id
    model: str
    voice: str
    provider: str
    outcome: str
    attempts: int
    fallback: bool
    characters: int
    units: Units
    audio_bytes: int
    first_audio_ms: Milliseconds | None
    duration_ms: Milliseconds
    at_ms: Milliseconds


VoicesReply: TypeAlias = VoiceList | Failure
ModelsReply: TypeAlias = ModelList | Failure
VOICES: Final[Endpoint[Voices, VoicesReply]] = Endpoint(subjects.SYNTH_VOICES, subjects.SYNTH, Voices, VoicesReply)
MODELS: Final[Endpoint[Models, ModelsReply]] = Endpoint(subjects.SYNTH_MODELS, subjects.SYNTH, Models, ModelsReply)
