"""How MiniMax is reached and used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from odea_synth.providers.credentials import Credential, credential_faults
from odea_synth.providers.upstream import UpstreamOptions, url_faults

REGIONS: Mapping[str, str] = MappingProxyType(
    {
        "global": "https://api.minimax.io",
        "global-west": "https://api-uw.minimax.io",
        "china": "https://api.minimaxi.com",
        "china-north": "https://api-bj.minimaxi.com",
    }
)
"""MiniMax's hosts by the names that configuration uses. Keys belong to a side, global or China; the second host of each
has the lower time to first audio for those near it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniMaxOptions:
    """How MiniMax is reached and used.

    Attributes:
        credentials: tried in turn; one that is refused is parked and the next is used.
        name: what routing, metrics and the breaker call this provider.
        base_url: scheme and host, such as those in `REGIONS`.
        group_id: sent as `GroupId` if given; today's keys do not need it.
        streaming: take audio as it is made; without it every utterance waits for the whole.
        park_s: how long a credential that was refused is left alone, where MiniMax does not say.
        throttle_s: how long a throttled credential is used only if no other is left: MiniMax counts by the minute.
        voices_ttl_s: how long the list of voices is taken for true.
        voices_max: voices that are kept; more are left out.
        upstream: connections, timeouts and bounds.

    Raises:
        ValueError: naming every value that is wrong.
    """

    credentials: tuple[Credential, ...]
    name: str = "minimax"
    base_url: str = REGIONS["global"]
    group_id: str | None = None
    streaming: bool = True
    park_s: float = 300.0
    throttle_s: float = 60.0
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
                    ("park_s", self.park_s),
                    ("throttle_s", self.throttle_s),
                    ("voices_ttl_s", self.voices_ttl_s),
                    ("voices_max", self.voices_max),
                )
                if not value > 0
            ),
        ]
        if not self.credentials:
            faults.insert(0, "credentials must name at least one")
        if faults:
            raise ValueError("; ".join(faults))
