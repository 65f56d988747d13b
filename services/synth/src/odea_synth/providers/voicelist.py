"""A provider's list of voices, asked for when it is needed and taken for true for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from odea_synth.providers.base import ProviderError, Voice

_RETRY_S = 10.0


class VoiceList:
    """The voices as the upstream last told them; bounded, fetched by one caller for all."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Sequence[Voice]]],
        *,
        ttl_s: float,
        voices_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._ttl_s = ttl_s
        self._voices_max = voices_max
        self._clock = clock
        self._voices: tuple[Voice, ...] | None = None
        self._fresh_until = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> tuple[Voice, ...]:
        """The voices. An old list is better than none while the upstream fails.

        Raises:
            ProviderError: there is no list yet, and none to be had.
        """
        async with self._lock:
            if self._voices is not None and self._clock() < self._fresh_until:
                return self._voices
            try:
                fetched = await self._fetch()
            except ProviderError as error:
                if self._voices is None:
                    raise
                structlog.get_logger().warning("voices cannot be listed anew", detail=error.detail)
                self._fresh_until = self._clock() + min(_RETRY_S, self._ttl_s)
                return self._voices
            if len(fetched) > self._voices_max:
                structlog.get_logger().warning("voices were left out", listed=len(fetched), kept=self._voices_max)
            self._voices = tuple(fetched[: self._voices_max])
            self._fresh_until = self._clock() + self._ttl_s
            return self._voices
