"""The log of requests: one row each, written in batches off the hot path. It never holds the text or the audio."""

import asyncio
from collections import deque
from typing import Final

import msgspec
import structlog
from prometheus_client import Counter

from odea_runtime.postgres import StorageUnavailableError
from odea_synth.store import RequestStore

_BATCH_MAX: Final = 500
_PAUSE_S: Final = 0.5
_PARTITIONS_EVERY_S: Final = 3600.0

_DROPPED = Counter("odea_synth_log_dropped_total", "Ended requests that found no room to wait in")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How one request went; the columns of `synth.requests`."""

    received_at_ms: int
    hold_id: str
    request_id: str
    tenant_id: str
    key_id: str
    model: str
    voice: str
    response_format: str
    provider: str
    outcome: str
    characters: int
    units_held: int
    units_settled: int
    provider_units: int
    audio_bytes: int
    first_audio_ms: int | None
    duration_ms: int


class RequestLog:
    """Collects ended requests and writes them. While the database is away they wait, up to `queue_max`."""

    def __init__(self, store: RequestStore, *, queue_max: int) -> None:
        self._store = store
        self._queue_max = queue_max
        self._waiting: deque[Ended] = deque()
        self._partitions_due = 0.0

    def add(self, ended: Ended) -> None:
        """Write it soon."""
        if len(self._waiting) >= self._queue_max:
            _DROPPED.inc()
        else:
            self._waiting.append(ended)

    async def run(self) -> None:
        """Write until cancelled, through outages of the database."""
        while True:
            try:
                await self.flush()
                await self._housekeep()
            except StorageUnavailableError as error:
                structlog.get_logger().warning("the request log waits", error=str(error), waiting=len(self._waiting))
            await asyncio.sleep(_PAUSE_S)

    async def flush(self) -> None:
        """Write all that waits.

        Raises:
            StorageUnavailableError: what could not be written still waits.
        """
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH_MAX))]
            await self._store.write(batch)
            for _ in batch:
                self._waiting.popleft()

    async def _housekeep(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._partitions_due:
            await self._store.ensure_partitions()
            self._partitions_due = now + _PARTITIONS_EVERY_S
