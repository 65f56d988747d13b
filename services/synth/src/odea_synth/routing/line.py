"""A provider with everything that stands before it: its breaker, the turns of its tenants, its time limits."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Gauge

from odea_contracts.synth import BreakerState
from odea_synth.breaker import Breaker
from odea_synth.providers.base import Provider
from odea_synth.turns import Turns

_STATE: Final = Gauge("odea_synth_breaker_state", "1 for the state that a breaker is in", ["provider", "state"])


@dataclass(slots=True, kw_only=True)
class Line:
    """The way to one provider. It is closed when nobody speaks over it any more and it has been retired.

    Attributes:
        attempts_max: how often one speech asks when the upstream fails before the first audio.
        first_audio_s: how long the provider may take to it.
        next_audio_s: how long it may pause between two pieces.
    """

    provider: Provider
    breaker: Breaker
    turns: Turns
    attempts_max: int
    first_audio_s: float
    next_audio_s: float
    _users: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Nobody speaks yet."""
        self._idle.set()
        show_state(self.provider.name, self.breaker.state)

    @contextmanager
    def used(self) -> Generator[None]:
        """Keep the provider open while the block runs."""
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def retire(self, within_s: float) -> None:
        """Close once nobody uses it, or after `within_s`, which breaks what is still spoken."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        await self.close()

    async def close(self) -> None:
        """End the turns and the provider."""
        await self.turns.close()
        await self.provider.close()


def show_state(provider: str, now: BreakerState) -> None:
    """Tell the metrics in which state a breaker is."""
    for state in BreakerState:
        _STATE.labels(provider, state.value).set(state is now)
