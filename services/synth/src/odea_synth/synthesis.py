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
class Rule:
    """How one provider speaks a model.

    Attributes:
        provider: who speaks.
        model: the provider's own name of the model; the client's if `None`.
        voices: the provider's own voice for names that clients use.
        standard_voices: the same for OpenAI's names, where neither `voices` nor the provider knows them; if empty, the
            provider's first voice answers to them all.
        unlisted_voices: names that nobody knows are passed on as they are.
        fallback_voice: speaks what an earlier rule has a voice for and this one has not.
        instructions: how to speak, where the client does not say.
        sample_rate_hz: the rate, where the client does not say.
    """

    provider: Provider
    model: str | None = None
    voices: Mapping[str, str] = field(default_factory=dict[str, str])
    standard_voices: Mapping[str, str] = field(default_factory=dict[str, str])
    unlisted_voices: bool = False
    fallback_voice: str | None = None
    instructions: str | None = None
    sample_rate_hz: int | None = None

    def names(self, listed: Sequence[Voice]) -> dict[str, str]:
        """Every name that clients can use, with the provider's own voice; `listed` are the voices that it has."""
        names = dict(self.standard_voices)
        if not names and listed:
            names = dict.fromkeys(OPENAI_VOICES, listed[0].id)
        names |= {voice.id: voice.id for voice in listed}
        return names | dict(self.voices)

    def voice(self, name: str, listed: Sequence[Voice] | None) -> str | None:
        """The provider's own voice for a client's name; `listed` is `None` while nobody knows what it has."""
        # What `names` says of one name, without making the table of all.
        own = self.voices.get(name)
        if own is None and any(voice.id == name for voice in listed or ()):
            own = name
        if own is None and not self.standard_voices and listed and name in OPENAI_VOICES:
            own = listed[0].id
        if own is None:
            own = self.standard_voices.get(name)
        if own is None and (self.unlisted_voices or listed is None):
            return name
        return own

    def utterance(self, request: Speak, voice: str) -> Utterance:
        """The request in the provider's words."""
        return Utterance(
            text=request.input,
            voice=voice,
            model=self.model or request.model,
            speed=request.speed,
            instructions=request.instructions or self.instructions,
            response_format=request.response_format,
            sample_rate_hz=request.sample_rate_hz or self.sample_rate_hz,
            timestamps=request.timestamps,
            minimax=request.minimax,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The models and voices that clients can name, and what each means to which provider.

    Attributes:
        models: the rules of each model, in the order in which they are tried. Aliases are models of their own.
        listed: the voices of each provider, by its name; one that is missing could not be asked yet.
        created_at_ms: when the models came to be, for lists that want to know.
    """

    models: Mapping[str, Sequence[Rule]]
    listed: Mapping[str, Sequence[Voice]]
    created_at_ms: int

    @classmethod
    def of(cls, provider: Provider, voices: Sequence[Voice], created_at_ms: int) -> "Catalogue":
        """One provider that speaks everything; its first voice answers to OpenAI's names, too."""
        rules = (Rule(provider=provider),)
        return cls(
            models=dict.fromkeys((*OPENAI_MODELS, provider.name), rules),
            listed={provider.name: voices},
            created_at_ms=created_at_ms,
        )

    def routes(self, request: Speak) -> tuple[Route, ...] | Failure:
        """Who can speak `request`, in the order of the rules; a failure names the field that nobody can serve."""
        rules = self.models.get(request.model)
        if rules is None:
            return failure(ErrorCode.MODEL_NOT_FOUND, param="model")
        routes: list[Route] = []
        for rule in rules:
            voice = rule.voice(request.voice, self.listed.get(rule.provider.name))
            if voice is None and routes:
                voice = rule.fallback_voice
            if voice is not None:
                routes.append(Route(provider=rule.provider, utterance=rule.utterance(request, voice)))
        return tuple(routes) or failure(ErrorCode.VOICE_NOT_FOUND, param="voice")

    def list_models(self) -> tuple[Model, ...]:
        """The models that clients can name."""
        return tuple(Model(id=name, created_at_ms=self.created_at_ms, owned_by="odea") for name in self.models)

    def list_voices(self, model: str | None) -> tuple[PublicVoice, ...] | Failure:
        """The voices that clients can name with `model`, or with any."""
        if model is not None and model not in self.models:
            return failure(ErrorCode.MODEL_NOT_FOUND, param="model")
        rules = [rule for name in ([model] if model else self.models) for rule in self.models[name]]
        voices: dict[str, PublicVoice] = {}
        # A provider speaks many models with the same rule.
        for rule in {id(rule): rule for rule in rules}.values():
            listed = self.listed.get(rule.provider.name, ())
            known = {voice.id: voice for voice in listed}
            for name, own in rule.names(listed).items():
                voice = known.get(own)
                public = PublicVoice(
                    id=name,
                    name=name,
                    language=voice.language if voice else None,
                    provider=rule.provider.name,
                    preview_url=voice.preview_url if voice else None,
                )
                voices.setdefault(name, public)
        return tuple(voices.values())


def provider_failure(error: ProviderError) -> Failure:
    """What a caller hears of a provider's error: its public text, never its detail."""
    wait_s = error.retry_after_s
    # Providers take it from upstream's headers, which may say anything.
    retry_after_ms = int(max(wait_s, 0.0) * 1000) if wait_s is not None and math.isfinite(wait_s) else None
    code = ErrorCode.UPSTREAM_TIMEOUT if error.timed_out else _CODES[error.error_class]
    return failure(code, error.message, param=error.param, retry_after_ms=retry_after_ms)


def quota_failure(denied: Denied) -> Failure:
    """What a caller hears of a limit that refused."""
    param = _PARAMS.get(denied.limit)
    return failure(_LIMITS[denied.limit], param=param, retry_after_ms=denied.retry_after_ms, balances=denied.balances)


def able_of(routes: Sequence[Route]) -> tuple[Route, ...] | Failure:
    """Those whose providers can speak this at all; why not, if none can."""
    able: list[Route] = []
    why: Failure | None = None
    for route in routes:
        try:
            route.provider.source_format(route.utterance)
        except ProviderError as error:
            why = why or provider_failure(error)
        else:
            able.append(route)
    return tuple(able) or why or failure(ErrorCode.VOICE_NOT_FOUND, param="voice")
