"""A provider's pace: how many speeches may begin in a minute, counted for all replicas together.

The count is a row in the database, moved on by one statement with the database's clock (GCRA). A replica that dies
takes nothing with it but the turns that it had just been given.
"""

import math
from dataclasses import dataclass
from typing import Final

from odea_runtime.postgres import Database

MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Turns that were given, and how long the next one takes to come."""

    turns: int
    next_s: float


class SharedPace:
    """At most `requests_per_minute` turns in any minute, `burst` of them at once.

    A burst is what is on top of the steady stream, so turns come every 60 s / (requests_per_minute - burst) in the long
    run: however a minute is laid, it never has more than it may. Methods may raise `StorageUnavailableError`.
    """

    def __init__(self, database: Database, provider: str, *, requests_per_minute: int, burst: int) -> None:
        self._database = database
        self._provider = provider
        self.burst: Final = burst
        self._interval_us = math.ceil(MINUTE_US / max(1, requests_per_minute - burst))

    @property
    def interval_s(self) -> float:
        """The time between two turns once a burst is used up."""
        return self._interval_us / 1_000_000

    async def take(self, wanted: int) -> Grant:
        """As many turns as there are now, at most `wanted`."""
        async with self._database.connection() as connection:
            row = await self._database.queries.take_pace(
                connection, provider=self._provider, wanted=wanted, interval_us=self._interval_us, burst=self.burst
            )
        return Grant(turns=row["granted"], next_s=row["wait_us"] / 1_000_000)
