"""Tells of top-ups that will lapse with units left, while there is time to speak with whoever paid for them."""

import asyncio
from contextlib import suppress
from typing import Any, Final

from prometheus_client import Gauge

from odea_runtime.postgres import Database, StorageUnavailableError

_PAUSE_S: Final = 600.0
_SOON_S: Final = 7 * 86_400.0

_LAPSING = Gauge("odea_quota_topup_units_lapsing", "Units that are left of top-ups that lapse within a week")


class Lapses:
    """Looks every ten minutes, which is often enough for what takes days. Every replica tells the same."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries: Any = database.queries

    async def run(self) -> None:
        """Go on until cancelled; what was told last stands while the storage is away."""
        while True:
            with suppress(StorageUnavailableError):
                async with self._database.connection() as connection:
                    _LAPSING.set(await self._queries.units_lapsing(connection, within_s=_SOON_S))
            await asyncio.sleep(_PAUSE_S)
