"""What every provider of speech promises, and the values that pass between a provider and the rest of the service."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from odea_contracts.minimax import MiniMax
from odea_contracts.synth import AudioFormat, TimestampKind, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One text to be spoken, in the words of the provider that shall speak it. Its repr keeps the text to itself.

    Attributes:
        text: clean text, never empty; nothing in it is an instruction to the provider, unless `minimax.markup` says so.
        voice: the provider's own id of a voice.
        model: the provider's own name of a model.
        speed: 0.25 to 4, where 1 is the voice's own pace.
        instructions: how to speak, for models that listen to it.
        response_format: what the client will get, so that a provider can make it itself if it likes.
        sample_rate_hz: the rate that the client asked for, if any.
        timestamps: what to tell the times of, if anything.
        minimax: wishes that only MiniMax can fulfil; other providers leave them alone.
    """

    text: str = field(repr=False)
    voice: str
    model: str
    speed: float = 1.0
    instructions: str | None = field(default=None, repr=False)
    response_format: AudioFormat = AudioFormat.MP3
    sample_rate_hz: int | None = None
    timestamps: TimestampKind | None = None
    minimax: MiniMax | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A voice that a provider has.

    Attributes:
        id: the provider's own id, to the byte.
        language: a BCP 47 tag such as `en-US`.
    """

    id: str
    name: str
    language: str | None
    provider: str
    gender: str | None = None
    preview_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The next audio of an utterance.

    Attributes:
        audio: bytes in the provider's `source_format`; may end inside a sample. Empty only where there is nothing
            else to tell than units or timings: before the first audio, once billed work has begun, and in a last chunk.
        billed_units: what the provider will have billed in all if nothing is read after this chunk. Never falls and
            keeps within `bound_units`, but for the last chunk: it has the provider's own figure, whatever that is.
        timings: when words or sentences are heard, if that was asked for: in order, each given once, none longer than
            `TIMED_CHARS_MAX`. They may be about audio that came before.
    """

    audio: bytes = field(repr=False)
    billed_units: int
    timings: tuple[Timing, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcm:
    """Raw samples, mono, signed 16 bit, little-endian: they are to be encoded."""

    rate_hz: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Finished audio: passed on as it is where the client wants that format, else made anew while it streams."""

    audio_format: AudioFormat


SourceFormat: TypeAlias = Pcm | Encoded


class ErrorClass(StrEnum):
    """Whose fault a provider's error is. It decides on retry, fail-over, the breaker and the answer."""

    CALLER = "caller"
    """The request is bad; it fails everywhere."""
    CONTENT = "content"
    """The provider refuses this text."""
    ACCOUNT = "account"
    """Our side of the arrangement is broken: credential, balance, plan or installation. An operator must act."""
    THROTTLE = "throttle"
    """Too much at once. Says nothing about the provider's health."""
    UPSTREAM = "upstream"
    """The provider failed. The only class that its breaker counts."""


class ProviderError(Exception):
    """A provider could not speak.

    Attributes:
        error_class: whose fault it is.
        message: text that callers may see.
        detail: for our logs alone; holds neither secrets nor the spoken text.
        retry_after_s: when another attempt makes sense, if the provider knows.
        param: the field of the request that is at fault, if one is.
        billed_units: what the provider has billed in all for what failed, as far as it said so or it must be feared.
        trace_id: the provider's own name for the request, for its support.
        timed_out: the provider took too long.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        detail: str = "",
        retry_after_s: float | None = None,
        param: str | None = None,
        billed_units: int = 0,
        trace_id: str | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.param = param
        self.billed_units = billed_units
        self.trace_id = trace_id
        self.timed_out = timed_out
        if detail:
            # A note shows in tracebacks, which only logs carry, and not in str(), which may reach a caller.
            self.add_note(detail)


class Provider(Protocol):
    """A source of speech. All methods are called on the event loop and never block it."""

    @property
    def name(self) -> str:
        """The name that routing, metrics and breakers use."""
        ...

    async def start(self) -> None:
        """Make ready, and fail now if the installation or the settings are wrong.

        Raises:
            ProviderError: of class account.
        """
        ...

    async def close(self) -> None:
        """Give back everything. Streams that are still open end with an error."""
        ...

    async def voices(self) -> Sequence[Voice]:
        """The voices that can be used now.

        Raises:
            ProviderError: they cannot be listed.
        """
        ...

    def bound_units(self, utterance: Utterance) -> int:
        """The most that this utterance can be billed, which is what the caller holds beforehand."""
        ...

    def source_format(self, utterance: Utterance) -> SourceFormat:
        """What the chunks of this utterance will contain. To be asked before anything is held.

        Raises:
            ProviderError: of class caller, when it can be told without a request that the provider cannot speak this:
                a voice, a speed, a format or a kind of timestamps that it does not have.
        """
        ...

    def stream(self, utterance: Utterance) -> AsyncGenerator[Chunk]:
        """Speak: audio in order, the first as early as possible.

        Work is done about as fast as it is read. Closing the generator stops it, at the latest at the end of the
        sentence being spoken.

        Raises:
            ProviderError: before the first chunk or between two.
        """
        ...
