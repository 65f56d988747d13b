"""Forgets the names of repeatable changes in time, so that no secret can be derived for longer than was said."""

import asyncio
from contextlib import suppress
from typing import Final

from odea_keys.repeats import Repeats
from odea_runtime.postgres import Database, StorageUnavailableError

PAUSE_S: Final = 60.0


class Forgetter:
    """Looks once a minute. Replicas may look at once; what one has deleted, another no longer finds."""

    def __init__(self, database: Database, repeats: Repeats, *, pause_s: float = PAUSE_S) -> None:
        self._database = database
        self._repeats = repeats
        self._pause_s = pause_s

    async def run(self) -> None:
        """Go on until cancelled; while the storage is away there is nothing to forget from."""
        while True:
            with suppress(StorageUnavailableError):
                async with self._database.connection() as connection:
                    await self._repeats.forget_old(connection)
            await asyncio.sleep(self._pause_s)
