"""From a plan to the lines that it asks for: providers of each kind, each with its breaker, pace and turns."""

from collections.abc import Callable

from odea_contracts.synth import BreakerState
from odea_runtime.postgres import Database
from odea_synth.breaker import Breaker
from odea_synth.pace import SharedPace
from odea_synth.providers.base import Provider
from odea_synth.providers.minimax import MiniMaxOptions, MiniMaxProvider
from odea_synth.providers.openai import OpenAIOptions, OpenAIProvider
from odea_synth.providers.piper import PiperOptions, PiperProvider
from odea_synth.routing.line import Line
from odea_synth.routing.reading import ProviderPlan
from odea_synth.settings import SynthSettings
from odea_synth.turns import Turns

Announce = Callable[[str, BreakerState, BreakerState], None]
"""Told which provider's breaker changed, the state before and the state now."""

MakeProvider = Callable[[ProviderPlan], Provider]
"""Makes the provider of a plan; it has not been started."""


class Lines:
    """Makes lines that share a database and an announcer.

    Args:
        database: where paces are kept.
        announce: told of every change of a breaker.
        settings: limits where a plan does not say any.
        make: makes the provider of a plan.
    """

    def __init__(
        self,
        database: Database,
        announce: Announce,
        settings: SynthSettings,
        make: MakeProvider,
    ) -> None:
        self._database = database
        self._announce = announce
        self._settings = settings
        self._make = make

    def open(self, plan: ProviderPlan) -> Line:
        """A line whose provider has not been started."""
        config, name = plan.config, plan.name
        pace = None
        if config.requests_per_minute is not None:
            pace = SharedPace(self._database, name, requests_per_minute=config.requests_per_minute, burst=plan.burst)
        return Line(
            provider=self._make(plan),
            breaker=Breaker(
                faults_max=config.breaker.faults_max,
                open_s=config.breaker.open_s,
                changed=lambda before, now: self._announce(name, before, now),
            ),
            turns=Turns(
                name,
                streams_max=config.streams_max,
                waiting_max=config.waiting_max,
                wait_s=config.wait_s,
                pace=pace,
            ),
            attempts_max=config.attempts_max,
            first_audio_s=config.first_audio_s or self._settings.synth_first_audio_s,
            next_audio_s=config.next_audio_s or self._settings.synth_next_audio_s,
        )


def make_provider(plan: ProviderPlan) -> Provider:
    """The provider of a plan, of whatever kind."""
    match plan.options:
        case MiniMaxOptions() as options:
            return MiniMaxProvider(options)
        case OpenAIOptions() as options:
            return OpenAIProvider(options)
        case PiperOptions() as options:
            return PiperProvider(options)
