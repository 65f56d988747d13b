"""A provider that has begun to speak, and how its stream is judged by its end (P8)."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from odea_runtime.patience import within
from odea_synth.breaker import Permit
from odea_synth.providers.base import Chunk, ErrorClass, ProviderError
from odea_synth.routing.line import Line
from odea_synth.synthesis import Route


@dataclass(slots=True, kw_only=True)
class Opened:
    """A provider that has begun to speak."""

    route: Route
    line: Line
    fallback: bool
    first: Chunk
    rest: AsyncGenerator[Chunk]
    permit: Permit

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """All of its audio. How the stream ends is what the breaker counts.

        Raises:
            ProviderError: it broke.
        """
        yield self.first
        while True:
            limit = within(self.line.next_audio_s)
            try:
                with limit:
                    chunk = await anext(self.rest, None)
            except TimeoutError:
                error = slow("The speech provider stopped in the middle.")
                self.permit.fail(error)
                raise error from None
            except asyncio.CancelledError:
                if_late(limit)
                raise
            except ProviderError as error:
                judge(self.permit, error)
                raise
            if chunk is None:
                self.permit.succeed()
                return
            yield chunk


def slow(message: str) -> ProviderError:
    """The provider took longer than it may."""
    return ProviderError(ErrorClass.UPSTREAM, message, timed_out=True)


def if_late(limit: within) -> None:
    """Say so if an interruption came while a provider was given up that had taken too long."""
    if limit.expired:
        raise asyncio.CancelledError from slow("The speech provider was given up.")


def judge(permit: Permit, error: ProviderError) -> None:
    """Tell the breaker, which counts faults of the upstream alone."""
    if error.error_class is ErrorClass.UPSTREAM:
        permit.fail(error)
    else:
        permit.leave()
