"""The log of requests: one row each, written in batches off the hot path. It never holds the text or the audio.

It is read as of the last batch: a request shows up within `pause_s` of its end.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog
from prometheus_client import Counter

from odea_contracts.errors import Failure
from odea_contracts.requests import RequestsList, RequestsPage
from odea_contracts.synth import Speak
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import StorageUnavailableError
from odea_synth.store import RequestStore, RowsRefusedError

_REFUSED: Final = "refused"
"""The outcome of a request that no provider was asked for."""
_BATCH_MAX: Final = 500
_PARTITIONS_EVERY_S: Final = 3600.0

_DROPPED = Counter("odea_synth_log_dropped_total", "Ended requests that never reached the log")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How one request went; the columns of `synth.requests`. What they mean stands in `contracts.requests`."""

    received_at_ms: int
    id: str = msgspec.field(default_factory=new_uuid)
    hold_id: str | None
    request_id: str
    tenant_id: str
    key_id: str
    model: str
    voice: str
    response_format: str
    provider: str | None
    outcome: str
    code: str | None = None
    attempts: int = 1
    fallback: bool = False
    characters: int
    units_held: int
    units_settled: int
    provider_units: int
    audio_bytes: int
    first_audio_ms: int | None
    duration_ms: int


def refused(request: Speak, told: Failure, began_ms: int) -> Ended:
    """The entry of a request that no provider was asked for."""
    return Ended(
        received_at_ms=began_ms,
        hold_id=None,
        request_id=request.request_id,
        tenant_id=request.tenant_id,
        key_id=request.key_id,
        model=request.model,
        voice=request.voice,
        response_format=request.response_format.value,
        provider=None,
        outcome=_REFUSED,
        code=told.code,
        attempts=0,
        characters=len(request.input),
        units_held=0,
        units_settled=0,
        provider_units=0,
        audio_bytes=0,
        first_audio_ms=None,
        duration_ms=max(0, time.time_ns() // 1_000_000 - began_ms),
    )


class RequestLog:
    """Collects ended requests and writes them every `pause_s`; while the database is away up to `queue_max` wait.

    Args:
        store: where they are kept.
        queue_max: how many wait; half of them at most when a refusal comes, so that a caller who is refused a thousand
            times a second pushes no speech out of the log.
        pause_s: how long ended requests wait for others.
        retention_days: how long they are kept, and at most a month longer; 0 for ever.
        looked_max: rows that are looked at for one page.
    """

    def __init__(
        self, store: RequestStore, *, queue_max: int, pause_s: float, retention_days: int = 0, looked_max: int = 5000
    ) -> None:
        self._store = store
        self._looked_max = looked_max
        self._retention_days = retention_days
        self._queue_max = queue_max
        self._pause_s = pause_s
        self._waiting: deque[Ended] = deque()
        self._writing = asyncio.Lock()
        self._partitions_due = 0.0

    def add(self, ended: Ended) -> None:
        """Write it soon."""
        room = self._queue_max // 2 if ended.outcome == _REFUSED else self._queue_max
        if len(self._waiting) >= room:
            _DROPPED.inc()
        else:
            self._waiting.append(ended)

    async def page(self, request: RequestsList) -> RequestsPage:
        """Entries that were written.

        Raises:
            StorageUnavailableError: they can't be read now.
        """
        return await self._store.page(request, self._looked_max)

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
            if self._retention_days:
                await self._store.drop_partitions(self._retention_days)
            self._partitions_due = now + _PARTITIONS_EVERY_S
