"""The rules of speech: which provider speaks a request, what an error means to the caller, what is charged. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Denied, Limit
from odea_contracts.synth import Model, Speak
from odea_contracts.synth import Voice as PublicVoice
from odea_synth.providers.base import ErrorClass, Provider, ProviderError, Utterance, Voice

OPENAI_MODELS: Final = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
OPENAI_VOICES: Final = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin", "cedar",
)  # fmt: skip
"""The names that OpenAI's clients know. Some refuse any other before they send."""

_CODES: Final[Mapping[ErrorClass, ErrorCode]] = {
    ErrorClass.CALLER: ErrorCode.INVALID_VALUE,
    ErrorClass.CONTENT: ErrorCode.CONTENT_REFUSED,
    # Ours to mend: the caller's own key is fine, so this must not look like a 401.
    ErrorClass.ACCOUNT: ErrorCode.UPSTREAM_UNAVAILABLE,
    ErrorClass.THROTTLE: ErrorCode.UPSTREAM_BUSY,
    ErrorClass.UPSTREAM: ErrorCode.UPSTREAM_ERROR,
}
_LIMITS: Final[Mapping[Limit, ErrorCode]] = {
    Limit.UNITS: ErrorCode.INSUFFICIENT_QUOTA,
    Limit.REQUESTS: ErrorCode.RATE_LIMIT_EXCEEDED,
    Limit.IN_FLIGHT: ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
    Limit.SUSPENDED: ErrorCode.ACCOUNT_SUSPENDED,
    Limit.TEXT: ErrorCode.INPUT_TOO_LONG,
    Limit.MODEL: ErrorCode.NOT_ALLOWED_BY_PLAN,
    Limit.VOICE: ErrorCode.NOT_ALLOWED_BY_PLAN,
    # The account opens when quota hears of the tenant, a moment after the tenant is made.
    Limit.ACCOUNT: ErrorCode.QUOTA_UNAVAILABLE,
}
_PARAMS: Final[Mapping[Limit, str]] = {Limit.TEXT: "input", Limit.MODEL: "model", Limit.VOICE: "voice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who speaks a request, and in which words."""

    provider: Provider
    utterance: Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The models and voices that clients can name, and what each means to a provider.

    Attributes:
        provider: speaks all of them.
        voices: the provider's own; the first one answers to OpenAI's names, too.
        created_at_ms: when the models came to be, for lists that want to know.
    """

    provider: Provider
    voices: Sequence[Voice]
    created_at_ms: int
    _by_name: dict[str, str] = field(init=False, repr=False, default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Index the voices by every name that they answer to."""
        self._by_name.update(dict.fromkeys(OPENAI_VOICES, self.voices[0].id))
        self._by_name.update({voice.id: voice.id for voice in self.voices})

    def route(self, request: Speak) -> Route | Failure:
        """Who speaks `request`; a failure names the field that nobody can serve."""
        if request.model not in self._model_names():
            return failure(ErrorCode.MODEL_NOT_FOUND, param="model")
        voice = self._by_name.get(request.voice)
        if voice is None:
            return failure(ErrorCode.VOICE_NOT_FOUND, param="voice")
        utterance = Utterance(
            text=request.input,
            voice=voice,
            model=request.model,
            speed=request.speed,
            instructions=request.instructions,
            response_format=request.response_format,
            sample_rate_hz=request.sample_rate_hz,
        )
        return Route(provider=self.provider, utterance=utterance)

    def models(self) -> tuple[Model, ...]:
        """The models that clients can name."""
        return tuple(Model(id=name, created_at_ms=self.created_at_ms, owned_by="odea") for name in self._model_names())

    def public_voices(self, model: str | None) -> tuple[PublicVoice, ...] | Failure:
        """The voices that clients can name with `model`, or with any."""
        if model is not None and model not in self._model_names():
            return failure(ErrorCode.MODEL_NOT_FOUND, param="model")
        known = {voice.id: voice for voice in self.voices}
        return tuple(
            PublicVoice(
                id=name,
                name=name,
                language=known[own].language,
                provider=known[own].provider,
                preview_url=known[own].preview_url,
            )
            for name, own in self._by_name.items()
        )

    def _model_names(self) -> tuple[str, ...]:
        return (*OPENAI_MODELS, self.provider.name)


def provider_failure(error: ProviderError) -> Failure:
    """What a caller hears of a provider's error: its public text, never its detail."""
    wait_s = error.retry_after_s
    # Providers take it from upstream's headers, which may say anything.
    retry_after_ms = int(max(wait_s, 0.0) * 1000) if wait_s is not None and math.isfinite(wait_s) else None
    return failure(_CODES[error.error_class], error.message, retry_after_ms=retry_after_ms)


def quota_failure(denied: Denied) -> Failure:
    """What a caller hears of a limit that refused."""
    param = _PARAMS.get(denied.limit)
    return failure(_LIMITS[denied.limit], param=param, retry_after_ms=denied.retry_after_ms, balances=denied.balances)
