"""Ends the holds whose lease is over, wherever their owners are (P3). Any number of replicas may sweep at once."""

import asyncio
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from odea_contracts.quota import Expired
from odea_quota.batcher import Batcher
from odea_quota.store import HoldStore
from odea_runtime.postgres import StorageUnavailableError

_BATCH_MAX: Final = 500
_GAUGES_EVERY_S: Final = 10.0
_PARTITIONS_EVERY_S: Final = 3600.0
_PARTITIONS_AGAIN_S: Final = 5.0

_EXPIRED = Counter("odea_quota_expired_holds_total", "Holds ended by the sweeper")
_OPEN = Gauge("odea_quota_open_holds", "Holds that have not ended")
_OLDEST = Gauge("odea_quota_oldest_hold_seconds", "Age of the oldest open hold")


class Sweeper:
    """Looks for overdue holds every `every_s` seconds and puts them to the batcher like any other command."""

    def __init__(self, store: HoldStore, batcher: Batcher, *, every_s: float) -> None:
        self._store = store
        self._batcher = batcher
        self._every_s = every_s
        self._gauges_due = 0.0
        self._partitions_due = 0.0

    async def run(self) -> None:
        """Sweep until cancelled, through outages of the database."""
        while True:
            try:
                await self._ensure_partitions()
                while await self._sweep():
                    pass
                await self._report()
            except StorageUnavailableError as error:
                structlog.get_logger().warning("the sweeper waits", error=str(error))
            await asyncio.sleep(self._every_s)

    async def _sweep(self) -> bool:
        """End what is overdue; whether there may be more. Not if some did not end: at once it would not work again."""
        overdue = await self._store.overdue(_BATCH_MAX)
        answers = await asyncio.gather(*(self._batcher.submit(expire) for expire in overdue))
        ended = sum(isinstance(answer, Expired) for answer in answers)
        _EXPIRED.inc(ended)
        return ended == _BATCH_MAX

    async def _report(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._gauges_due:
            open_holds, oldest_s = await self._store.gauges()
            _OPEN.set(open_holds)
            _OLDEST.set(oldest_s)
            self._gauges_due = now + _GAUGES_EVERY_S

    async def _ensure_partitions(self) -> None:
        """Before anything is ended, or after a long sleep its end would have no place to be written.

        They are made months ahead, so holds are ended also where that fails.
        """
        now = asyncio.get_running_loop().time()
        if now < self._partitions_due:
            return
        try:
            await self._store.ensure_partitions()
            self._partitions_due = now + _PARTITIONS_EVERY_S
        except StorageUnavailableError as error:
            structlog.get_logger().warning("the next months' partitions could not be made", error=str(error))
            self._partitions_due = now + _PARTITIONS_AGAIN_S
