"""A provider of speech that does what a test has written down: the stand-in for an upstream that costs money.

It is strict. A text that no test has announced is a fault, each announcement serves one utterance, and what is billed
never falls.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import TypeAlias

from odea_synth.providers.base import Chunk, Pcm, SourceFormat, Utterance, Voice

Step: TypeAlias = Chunk | BaseException | Callable[[], Awaitable[object]]
"""A chunk is yielded, an exception is raised, anything else is called and awaited, such as `event.wait`."""

RATE_HZ = 24_000


class Performance:
    """One utterance, as the provider sees it."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps: Iterator[Step] = iter(steps)
        self.utterance: Utterance | None = None
        self.given = 0
        self.billed_units = 0
        self.began = asyncio.Event()
        self.closed = asyncio.Event()

    async def play(self) -> AsyncGenerator[Chunk]:
        """Go through the steps."""
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Chunk):
                assert step.billed_units >= self.billed_units, "what is billed never falls"
                self.billed_units = step.billed_units
                self.given += 1
                yield step
            else:
                await step()


class ScriptedProvider:
    """A `Provider` that bills so many units for each character of the text, at most."""

    def __init__(
        self, source: SourceFormat | None = None, *, name: str = "scripted", units_per_character: int = 1
    ) -> None:
        self._name = name
        self._units_per_character = units_per_character
        self.source = source or Pcm(rate_hz=RATE_HZ)
        self.broken: Exception | None = None
        self.open_streams = 0
        self._announced: dict[str, Performance] = {}
        self._again: dict[str, list[Performance]] = {}

    @property
    def name(self) -> str:
        """See `Provider`."""
        if self.broken:
            raise self.broken
        return self._name

    def announce(self, text: str, *steps: Step, then: Iterable[Step] = ()) -> Performance:
        """The next utterance of `text` takes `steps`, and `then` those of an iterable that may have no end."""
        assert text not in self._announced, "announced twice"
        self._announced[text] = Performance(step for part in (steps, then) for step in part)
        return self._announced[text]

    def announce_again(self, text: str, *attempts: Step) -> None:
        """The next utterances of `text` take one step each."""
        assert text not in self._announced, "announced twice"
        self._again[text] = [Performance([step]) for step in attempts]

    async def start(self) -> None:
        """See `Provider`."""

    async def close(self) -> None:
        """See `Provider`."""
        assert self.open_streams == 0, "a stream was left open"

    async def voices(self) -> tuple[Voice, ...]:
        """See `Provider`."""
        return (
            Voice(id="Vera", name="Vera", language="en-GB", provider=self._name),
            Voice(id="nova", name="Nova", language=None, provider=self._name),
        )

    def bound_units(self, utterance: Utterance) -> int:
        """See `Provider`."""
        return len(utterance.text) * self._units_per_character

    def source_format(self, utterance: Utterance) -> SourceFormat:
        """See `Provider`."""
        assert utterance.voice in ("Vera", "nova")
        return self.source

    async def stream(self, utterance: Utterance) -> AsyncGenerator[Chunk]:
        """See `Provider`."""
        if self._again.get(utterance.text):
            self._announced[utterance.text] = self._again[utterance.text].pop(0)
        assert utterance.text in self._announced, "nobody announced this text"
        performance = self._announced.pop(utterance.text)
        performance.utterance = utterance
        performance.began.set()
        self.open_streams += 1
        try:
            async for chunk in performance.play():
                yield chunk
        finally:
            self.open_streams -= 1
            performance.closed.set()


def spoken(billed_units: int, *, frames: int = 240, level: int = 1000) -> Chunk:
    """A chunk of `frames` samples, all of them `level`, after which `billed_units` are billed in all."""
    return Chunk(audio=level.to_bytes(2, "little", signed=True) * frames, billed_units=billed_units)
