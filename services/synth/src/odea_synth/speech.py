"""What is known of one speech so far, and what is told of it when it has ended."""

import time
from dataclasses import dataclass, field
from typing import Final

from odea_contracts.errors import ErrorCode
from odea_contracts.synth import CancelReason, Speak, SpeechEvent, Timing
from odea_synth.attempts import Story
from odea_synth.metering import Hold
from odea_synth.request_log import Ended
from odea_synth.synthesis import Route

COMPLETED: Final = "completed"
LEFT: Final = frozenset({CancelReason.CLIENT_GONE, CancelReason.CLIENT_STALLED})
_CHARGED: Final = frozenset({COMPLETED, *LEFT})
"""The ends after which a charge stands."""


@dataclass(slots=True, kw_only=True)
class Speech:
    """A speech in hand.

    Attributes:
        routes: who can be asked, in order.
        route: who was chosen; the first until then.
        billed_units: what that provider has billed.
        timings: what could not be sent yet.
        cut: how it ends, once we or the provider have cut it. Whoever leaves while that is tidied up pays nothing (P2).
    """

    request: Speak
    routes: tuple[Route, ...]
    hold: Hold
    route: Route = field(init=False)
    fallback: bool = False
    story: Story = field(default_factory=Story)
    began: float = field(default_factory=time.monotonic)
    began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    billed_units: int = 0
    first_audio_ms: int | None = None
    bytes_sent: int = 0
    timings: list[Timing] = field(default_factory=list[Timing])
    units_settled: int | None = None
    outcome: str = "fault"
    cut: str | None = None
    code: ErrorCode | None = None

    def __post_init__(self) -> None:
        """Begin with the first route."""
        self.route = self.routes[0]

    @property
    def stands(self) -> bool:
        """Whether its hold has ended as it is to stay."""
        return self.units_settled is not None and (not self.units_settled or self.outcome in _CHARGED)

    @property
    def charge(self) -> int:
        """What the provider billed, never more than is held."""
        return min(self.billed_units, self.hold.units)

    @property
    def cost_units(self) -> int:
        """What all providers billed that were asked."""
        return self.billed_units + self.story.lost_units

    def include_unheard(self) -> None:
        """If it ended while a provider was asked that had billed but sent nothing yet: that one spoke, and billed."""
        if self.story.unheard_units and self.story.asked:
            self.route, self.billed_units = self.story.asked, self.story.unheard_units

    @property
    def duration_ms(self) -> int:
        """How long it has taken."""
        return int((time.monotonic() - self.began) * 1000)

    def entry(self, units_settled: int) -> Ended:
        """For the request log."""
        request = self.request
        return Ended(
            received_at_ms=self.began_ms,
            hold_id=self.hold.hold_id,
            request_id=request.request_id,
            tenant_id=request.tenant_id,
            key_id=request.key_id,
            model=request.model,
            voice=self.route.utterance.voice,
            response_format=request.response_format.value,
            provider=self.route.provider.name,
            outcome=self.outcome,
            code=self.code,
            attempts=self.story.attempts,
            fallback=self.fallback,
            characters=len(request.input),
            units_held=self.hold.units,
            units_settled=units_settled,
            provider_units=self.cost_units,
            audio_bytes=self.bytes_sent,
            first_audio_ms=self.first_audio_ms,
            duration_ms=self.duration_ms,
        )

    def event(self, units_settled: int) -> SpeechEvent:
        """For whoever follows."""
        request = self.request
        return SpeechEvent(
            request_id=request.request_id,
            tenant_id=request.tenant_id,
            key_id=request.key_id,
            model=request.model,
            voice=self.route.utterance.voice,
            provider=self.route.provider.name,
            outcome=self.outcome,
            attempts=self.story.attempts,
            fallback=self.fallback,
            characters=len(request.input),
            units=units_settled,
            audio_bytes=self.bytes_sent,
            first_audio_ms=self.first_audio_ms,
            duration_ms=self.duration_ms,
            at_ms=time.time_ns() // 1_000_000,
        )
