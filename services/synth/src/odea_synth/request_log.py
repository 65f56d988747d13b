"""The log of requests: one row each, written in batches off the hot path. It never holds the text or the audio."""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog
from prometheus_client import Counter

from odea_runtime.postgres import StorageUnavailableError
from odea_synth.store import RequestStore, RowsRefusedError

_BATCH_MAX: Final = 500
_PARTITIONS_EVERY_S: Final = 3600.0

_DROPPED = Counter("odea_synth_log_dropped_total", "Ended requests that never reached the log")


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
    """Collects ended requests and writes them every `pause_s`; while the database is away up to `queue_max` wait."""

    def __init__(self, store: RequestStore, *, queue_max: int, pause_s: float) -> None:
        self._store = store
        self._queue_max = queue_max
        self._pause_s = pause_s
        self._waiting: deque[Ended] = deque()
        self._writing = asyncio.Lock()
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
            await asyncio.sleep(self._pause_s)

    async def flush(self) -> None:
        """Write all that waits.

        Raises:
            StorageUnavailableError: what could not be written still waits.
        """
        async with self._writing:
            while self._waiting:
                batch = list(islice(self._waiting, _BATCH_MAX))
                await self._write(batch)
                for _ in batch:
                    self._waiting.popleft()

    async def finish(self) -> None:
        """Write all that waits, at the end of the process: what the database does not take now is lost."""
        try:
            await self.flush()
        except StorageUnavailableError as error:
            _DROPPED.inc(len(self._waiting))
            structlog.get_logger().error("the request log is lost", error=str(error), lost=len(self._waiting))

    async def _write(self, batch: Sequence[Ended]) -> None:
        try:
            await self._store.write(batch)
        except RowsRefusedError as error:
            # One bad row must not keep the others out, or itself in the queue for ever.
            if len(batch) > 1:
                for ended in batch:
                    await self._write([ended])
                return
            _DROPPED.inc()
            structlog.get_logger().error("a row was refused", error=str(error), hold_id=batch[0].hold_id)

    async def _housekeep(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._partitions_due:
            await self._store.ensure_partitions()
            self._partitions_due = now + _PARTITIONS_EVERY_S
