"""From routes to the first audio: turns, breakers, retries and the next provider, all inside the caller's time.

The next provider is asked only before the first audio, and only for faults of the account, of throttling and of the
upstream. A provider that may bill more than is held is asked only once that much is held (P1).
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import Counter

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_runtime import tracing
from odea_runtime.counting import by_labels
from odea_runtime.patience import within
from odea_synth.breaker import BreakerOpenError
from odea_synth.opened import Opened, if_late, judge, slow
from odea_synth.providers.base import Chunk, ErrorClass, ProviderError
from odea_synth.routing.line import Line
from odea_synth.synthesis import Route, provider_failure
from odea_synth.turns import BusyError

_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 2.0
_PAUSE_MAX_S: Final = 120.0
"""What a provider says about throttling is believed up to here."""
_ELSEWHERE: Final = {ErrorClass.ACCOUNT, ErrorClass.THROTTLE, ErrorClass.UPSTREAM}

_ATTEMPTS = Counter(
    "odea_synth_attempts_total", "How asking a provider for its first audio went", ["provider", "outcome"]
)
_attempts = by_labels(_ATTEMPTS)
_FALLBACKS = Counter("odea_synth_fallbacks_total", "Speeches that another than the first provider spoke", ["provider"])

Raise = Callable[[int], Awaitable[bool]]
"""Hold at least so many units; whether they are held."""


@dataclass(slots=True)
class Story:
    """What happened on the way to the first audio.

    Attributes:
        attempts: how often a provider was asked.
        asked: whose turn it was last.
        unheard_units: what that one has billed without any audio yet.
        lost_units: what providers billed for attempts that failed.
        failures: what each route would tell the caller.
    """

    attempts: int = 0
    asked: Route | None = None
    unheard_units: int = 0
    lost_units: int = 0
    failures: list[Failure] = field(default_factory=list[Failure])

    def lose(self, billed_units: int) -> None:
        """The attempt failed that had billed so much, or what is noted as unheard."""
        self.lost_units += max(billed_units, self.unheard_units)
        self.unheard_units = 0


class NoAudioError(Exception):
    """No provider spoke; `failure` is what the caller hears."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


class Opener:
    """Asks providers for one speech. Made anew for each.

    Args:
        lines: the way to each provider.
        tenant_id: whose turn it is.
        until: the end of the caller's time, by the clock.
        raise_hold: called when a provider may bill more than is held.
        assure: called before each question; does not return if nobody waits for the answer any more.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        lines: Mapping[str, Line],
        tenant_id: str,
        *,
        until: float,
        raise_hold: Raise,
        assure: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lines = lines
        self._tenant_id = tenant_id
        self._until = until
        self._raise_hold = raise_hold
        self._assure = assure
        self._clock = clock
        self.story: Final = Story()

    @asynccontextmanager
    async def open(self, routes: Sequence[Route], held: int) -> AsyncGenerator[Opened]:
        """The first provider of `routes` that speaks; its turn, its stream and its permit last as long as the block.

        Raises:
            NoAudioError: none did.
        """
        for index, route in enumerate(routes):
            if index and not await self._afford(route, held):
                continue
            found = await self._try(route, fallback=index > 0)
            if found:
                if index:
                    _FALLBACKS.labels(route.provider.name).inc()
                opened, lasting = found
                async with lasting:
                    yield opened
                return
        raise NoAudioError(self._verdict())

    async def _afford(self, route: Route, held: int) -> bool:
        bound = route.provider.bound_units(route.utterance)
        if bound <= held or await self._raise_hold(bound):
            return True
        _attempts(route.provider.name, "unaffordable").inc()
        return False

    async def _try(self, route: Route, *, fallback: bool) -> tuple[Opened, AsyncExitStack] | None:
        """Ask one provider as often as makes sense; what it has opened lasts as long as what is given with it.

        Raises:
            NoAudioError: nobody else is to be asked.
        """
        line = self._lines[route.provider.name]
        for attempt in range(1, line.attempts_max + 1):
            async with AsyncExitStack() as stack:
                try:
                    opened = await self._ask(stack, line, route, fallback=fallback)
                except BreakerOpenError as error:
                    self._refused(line, "breaker_open", ErrorCode.UPSTREAM_UNAVAILABLE, error.retry_after_s)
                    return None
                except BusyError as error:
                    self._refused(line, "busy", ErrorCode.UPSTREAM_BUSY, error.retry_after_s)
                    return None
                except ProviderError as error:
                    self._failed(line, error)
                    if error.error_class is not ErrorClass.UPSTREAM or error.timed_out:
                        return None
                else:
                    return opened, stack.pop_all()
            if attempt == line.attempts_max or not await self._back_off(attempt):
                return None
        return None

    async def _ask(self, stack: AsyncExitStack, line: Line, route: Route, *, fallback: bool) -> Opened:
        line.breaker.check()
        await stack.enter_async_context(line.turns.turn(self._tenant_id, self._left_s()))
        await self._assure()
        permit = line.breaker.enter()
        stack.callback(permit.leave)
        self.story.attempts += 1
        self.story.asked = route
        span = stack.enter_context(tracing.asking(f"speech from {line.provider.name}"))
        span.note("odea.provider", line.provider.name)
        chunks = await stack.enter_async_context(aclosing(route.provider.stream(route.utterance)))
        try:
            first = await self._first(line, chunks)
        except ProviderError as error:
            judge(permit, error)
            span.fail(error.error_class.value)
            raise
        permit.spoke()
        _attempts(line.provider.name, "spoke").inc()
        return Opened(route=route, line=line, fallback=fallback, first=first, rest=chunks, permit=permit)

    async def _first(self, line: Line, chunks: AsyncGenerator[Chunk]) -> Chunk:
        left_s = self._left_s()
        limit = within(min(line.first_audio_s, left_s))
        try:
            with limit:
                first = await self._first_with_audio(chunks)
        except TimeoutError:
            if left_s < line.first_audio_s:
                # The caller's time is over before the provider's own: that says nothing about the provider (P8).
                self.story.lose(0)
                raise NoAudioError(failure(ErrorCode.DEADLINE_EXCEEDED)) from None
            raise slow("The speech provider did not answer in time.") from None
        except asyncio.CancelledError:
            if_late(limit)
            raise
        if first is None:
            raise ProviderError(ErrorClass.UPSTREAM, "The speech provider sent no audio.")
        return first

    async def _first_with_audio(self, chunks: AsyncGenerator[Chunk]) -> Chunk | None:
        async for chunk in chunks:
            if chunk.audio:
                self.story.unheard_units = 0
                return chunk
            # Stays where it is if the caller leaves now: that is what the caller pays (P2).
            self.story.unheard_units = chunk.billed_units
        return None

    def _left_s(self) -> float:
        left_s = self._until - self._clock()
        if left_s <= 0:
            raise NoAudioError(self._verdict(late=True))
        return left_s

    async def _back_off(self, attempt: int) -> bool:
        """Wait before asking again; whether there is time for that. The jitter keeps callers from coming together."""
        wait_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311
        if wait_s >= self._until - self._clock():
            return False
        await asyncio.sleep(wait_s)
        return True

    def _refused(self, line: Line, outcome: str, code: ErrorCode, retry_after_s: float) -> None:
        _attempts(line.provider.name, outcome).inc()
        self.story.failures.append(failure(code, retry_after_ms=int(retry_after_s * 1000)))

    def _failed(self, line: Line, error: ProviderError) -> None:
        name = line.provider.name
        structlog.get_logger().warning(
            "the provider failed",
            provider=name,
            error_class=error.error_class,
            detail=error.detail,
            trace_id=error.trace_id,
        )
        _attempts(name, error.error_class.value).inc()
        self.story.lose(error.billed_units)
        told = provider_failure(error)
        if error.error_class not in _ELSEWHERE:
            raise NoAudioError(told)
        if error.error_class is ErrorClass.THROTTLE and told.retry_after_ms:
            line.turns.pause(min(_PAUSE_MAX_S, told.retry_after_ms / 1000))
        self.story.failures.append(told)

    def _verdict(self, *, late: bool = False) -> Failure:
        """What the caller hears when all are out: the worst that happened, and the soonest that one may be back."""
        failures = self.story.failures
        if late and not failures:
            return failure(ErrorCode.DEADLINE_EXCEEDED)
        worst = min(failures, key=lambda told: _ORDER.index(told.code) if told.code in _ORDER else 0)
        waits_ms = [told.retry_after_ms for told in failures if told.retry_after_ms is not None]
        return failure(worst.code, worst.message, retry_after_ms=min(waits_ms, default=None))


_ORDER: Final = (
    ErrorCode.UPSTREAM_ERROR,
    ErrorCode.UPSTREAM_TIMEOUT,
    ErrorCode.UPSTREAM_UNAVAILABLE,
    ErrorCode.UPSTREAM_BUSY,
)


def came_upon_failure(interrupted: BaseException) -> bool:
    """Whether a provider had failed already, and just the tidying up after that was interrupted."""
    met: BaseException | None = interrupted
    while met is not None:
        if isinstance(met, ProviderError | NoAudioError):
            return True
        met = met.__cause__ or met.__context__
    return False
