"""How a server with OpenAI's speech endpoint is reached, and in what it differs from OpenAI's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from odea_contracts.synth import AudioFormat
from odea_synth.providers.credentials import Credential, credential_faults
from odea_synth.providers.upstream import UpstreamOptions, url_faults

OPENAI_VOICES = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin", "cedar",
)  # fmt: skip


class Flavour(StrEnum):
    """Whose server it is; each has its ways."""

    OPENAI = "openai"
    KOKORO = "kokoro"
    SPEACHES = "speaches"
    ODEA = "odea"
    OTHER = "other"
    """Any other: takes no field that OpenAI's does not take, and may list its voices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What sets a flavour apart.

    Attributes:
        formats: what its server makes well enough to be passed on; anything else we encode from its pcm.
        sample_rate: it takes `sample_rate`, and keeps to it.
        instructions: it takes `instructions`.
        lists_voices: it answers `GET /audio/voices`.
        text_characters_max: the longest text that it takes; None if that is not known.
    """

    formats: frozenset[AudioFormat]
    sample_rate: bool = False
    instructions: bool = True
    lists_voices: bool = True
    text_characters_max: int | None = None


# Streamed wav has sizes that differ from server to server, so its header is always ours.
_ALL_BUT_WAV = frozenset(AudioFormat) - {AudioFormat.WAV}
WAYS: Mapping[Flavour, Ways] = MappingProxyType(
    {
        Flavour.OPENAI: Ways(formats=_ALL_BUT_WAV, lists_voices=False, text_characters_max=4096),
        Flavour.KOKORO: Ways(formats=_ALL_BUT_WAV, instructions=False),
        # Its other formats have the rate of the voice, unless told otherwise.
        Flavour.SPEACHES: Ways(formats=_ALL_BUT_WAV, sample_rate=True, instructions=False),
        Flavour.ODEA: Ways(formats=_ALL_BUT_WAV, sample_rate=True),
        Flavour.OTHER: Ways(formats=frozenset({AudioFormat.MP3, AudioFormat.PCM})),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """How a server with OpenAI's speech endpoint is reached and used.

    Attributes:
        credentials: tried in turn; one that is refused is parked and the next is used. None at all is fine.
        name: what routing, metrics and the breaker call this provider.
        base_url: up to and with `/v1`.
        flavour: whose server it is.
        voices: its voices, if it does not list them; OpenAI's own if empty.
        formats: what it makes well enough to be passed on, if other than its flavour.
        text_characters_max: the longest text that it takes, if other than its flavour.
        park_s: how long a credential that was refused is left alone.
        throttle_s: how long a throttled credential is used only if no other is left, where the server does not say.
        voices_ttl_s: how long the list of voices is taken for true.
        voices_max: voices that are kept; more are left out.
        upstream: connections, timeouts and bounds.

    Raises:
        ValueError: naming every value that is wrong.
    """

    credentials: tuple[Credential, ...] = ()
    name: str = "openai"
    base_url: str = "https://api.openai.com/v1"
    flavour: Flavour = Flavour.OPENAI
    voices: tuple[str, ...] = ()
    formats: frozenset[AudioFormat] | None = None
    text_characters_max: int | None = None
    park_s: float = 300.0
    throttle_s: float = 20.0
    voices_ttl_s: float = 3600.0
    voices_max: int = 10_000
    upstream: UpstreamOptions = field(default_factory=UpstreamOptions)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        faults = [
            *credential_faults(self.credentials, self.base_url),
            *url_faults("base_url", self.base_url),
            *(
                f"{name} must be above 0"
                for name, value in (
                    ("text_characters_max", 1 if self.text_characters_max is None else self.text_characters_max),
                    ("park_s", self.park_s),
                    ("throttle_s", self.throttle_s),
                    ("voices_ttl_s", self.voices_ttl_s),
                    ("voices_max", self.voices_max),
                )
                if not value > 0
            ),
        ]
        if faults:
            raise ValueError("; ".join(faults))
