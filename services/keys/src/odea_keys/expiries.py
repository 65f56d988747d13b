"""Tells of keys that are about to expire, before an application that holds one stands still."""

import asyncio
from contextlib import suppress
from typing import Any, Final

from prometheus_client import Gauge

from odea_runtime.postgres import Database, StorageUnavailableError

_PAUSE_S: Final = 600.0
_SOON_S: Final = 7 * 86_400.0
_LONG_S: Final = 30 * 86_400.0

_EXPIRING = Gauge("odea_keys_expiring", "Keys for a month or longer that expire within a week")


class Expiries:
    """Looks every ten minutes. Keys that were made for less than a month are meant to end, and are not told of."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries: Any = database.queries

    async def run(self) -> None:
        """Go on until cancelled; what was told last stands while the storage is away."""
        while True:
            with suppress(StorageUnavailableError):
                async with self._database.connection() as connection:
                    _EXPIRING.set(
                        await self._queries.keys_expiring(connection, within_s=_SOON_S, lifetime_s_min=_LONG_S)
                    )
            await asyncio.sleep(_PAUSE_S)
