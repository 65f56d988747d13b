"""What is in force: the lines to the providers and the catalogue of models, exchanged as a whole when the plan changes.

A line whose provider is planned as before stays, with its breaker and those who wait; one that is changed or gone is
closed when the last speech over it has ended. So a speech ends as it began, whatever happens to the plan meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from odea_synth.providers.base import Provider, ProviderError, Voice
from odea_synth.routing.config import ModelConfig
from odea_synth.routing.line import Line
from odea_synth.routing.reading import ProviderPlan, RoutingPlan
from odea_synth.routing.standard import MINIMAX_VOICES
from odea_synth.synthesis import OPENAI_VOICES, Catalogue, Rule

_LIST_S: Final = 3.0
"""How long a start or a change of plan waits for a provider's list of voices."""

OpenLine = Callable[[ProviderPlan], Line]
"""Makes a line that has not been started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Catalogue and lines that belong together."""

    catalogue: Catalogue
    lines: Mapping[str, Line]


class Switchboard:
    """Holds the routing that is in force.

    Args:
        open_line: makes the line to a planned provider.
        retire_s: how long speeches over a line that is no longer planned may go on.
        voices_every_s: how often the lists of voices are brought up to date.
    """

    def __init__(self, open_line: OpenLine, *, retire_s: float, voices_every_s: float) -> None:
        self._open_line = open_line
        self._retire_s = retire_s
        self._voices_every_s = voices_every_s
        self._created_at_ms = time.time_ns() // 1_000_000
        self._plan = RoutingPlan(providers={}, models={})
        self._listed: dict[str, Sequence[Voice]] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self.routing = Routing(catalogue=Catalogue(models={}, listed={}, created_at_ms=self._created_at_ms), lines={})

    @property
    def catalogue(self) -> Catalogue:
        """What clients can name now."""
        return self.routing.catalogue

    async def apply(self, plan: RoutingPlan) -> None:
        """Put a plan in force. If one of its new providers can't be made ready, all stays as it was.

        Raises:
            ProviderError: of class account.
        """
        kept = {
            name: line
            for name, line in self.routing.lines.items()
            if plan.providers.get(name) == self._plan.providers.get(name)
        }
        opened: dict[str, Line] = {}
        try:
            for name, provider in plan.providers.items():
                if name not in kept:
                    opened[name] = self._open_line(provider)
                    await opened[name].provider.start()
        except BaseException:
            for line in opened.values():
                await line.close()
            raise
        gone = [line for name, line in self.routing.lines.items() if name not in kept]
        self._listed = {name: voices for name, voices in self._listed.items() if name in kept}
        await self._list_voices(opened)
        self._plan = plan
        self._put_in_force({**kept, **opened})
        for line in gone:
            task = asyncio.create_task(line.retire(self._retire_s))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    async def run(self) -> None:
        """Keep the lists of voices fresh until cancelled."""
        while True:
            await asyncio.sleep(self._voices_every_s)
            if await self._list_voices(self.routing.lines):
                self._put_in_force(self.routing.lines)

    async def close(self) -> None:
        """Close every line; what is still spoken breaks."""
        for task in list(self._retired):
            task.cancel()
        if self._retired:
            await asyncio.wait(self._retired)
        for line in self.routing.lines.values():
            await line.close()

    def _put_in_force(self, lines: Mapping[str, Line]) -> None:
        models: dict[str, Sequence[Rule]] = {}
        for name, model in self._plan.models.items():
            rules = tuple(self._rules(model, lines, name))
            models.update(dict.fromkeys((name, *model.aliases), rules))
        catalogue = Catalogue(models=models, listed=dict(self._listed), created_at_ms=self._created_at_ms)
        self.routing = Routing(catalogue=catalogue, lines=lines)

    def _rules(self, model: ModelConfig, lines: Mapping[str, Line], name: str) -> list[Rule]:
        return [
            Rule(
                provider=lines[route.provider].provider,
                # An alias is the same model, so the provider hears the name that the alias stands for.
                model=route.model or name,
                voices=route.voices,
                standard_voices=_STANDARD_VOICES[self._plan.providers[route.provider].config.kind],
                unlisted_voices=route.unlisted_voices,
                fallback_voice=route.fallback_voice,
                instructions=route.instructions,
                sample_rate_hz=route.sample_rate_hz,
            )
            for route in model.routes
        ]

    async def _list_voices(self, lines: Mapping[str, Line]) -> bool:
        """Ask providers for their voices, side by side; whether anything changed. An old list is better than none."""
        found = await asyncio.gather(*(_voices(line.provider) for line in lines.values()))
        fresh = {name: voices for name, voices in zip(lines, found, strict=True) if voices is not None}
        changed = any(self._listed.get(name) != voices for name, voices in fresh.items())
        self._listed |= fresh
        return changed


_STANDARD_VOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "minimax": MINIMAX_VOICES,
    "openai": {name: name for name in OPENAI_VOICES},
    "piper": {},
}


async def _voices(provider: Provider) -> tuple[Voice, ...] | None:
    try:
        async with asyncio.timeout(_LIST_S):
            return tuple(await provider.voices())
    except (ProviderError, TimeoutError) as error:
        detail = error.detail if isinstance(error, ProviderError) else "timeout"
        structlog.get_logger().warning("voices could not be listed", provider=provider.name, detail=detail)
        return None
