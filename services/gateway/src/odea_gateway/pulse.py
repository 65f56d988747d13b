"""Whether the bus is heard: a connection that a network has cut looks whole for long, and changes of keys go unheard.

The server answers a round trip after all that it had to tell before, so one that came back in time says that nothing
older was missed. One that did not says that something may have been (P5).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import nats.errors
from prometheus_client import Counter

_MISSED = Counter("odea_bus_pulses_missed_total", "Round trips to the bus that did not come back in time")


class Pulse:
    """Asks again and again.

    Args:
        round_trip: returns when the server has answered; waits at most the seconds that it is given.
        connected: whether there is a connection at all; without one somebody else tells of it.
        missed: called whenever no answer came in time.
        every_s: the pause between two round trips, and how long each may take. Who hears nothing knows in twice that.
    """

    def __init__(
        self,
        round_trip: Callable[[float], Awaitable[None]],
        connected: Callable[[], bool],
        missed: Callable[[], None],
        *,
        every_s: float,
    ) -> None:
        self._round_trip = round_trip
        self._connected = connected
        self._missed = missed
        self._every_s: Final = every_s

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if not self._connected():
                continue
            try:
                await self._round_trip(self._every_s)
            except (nats.errors.Error, TimeoutError, OSError):
                _MISSED.inc()
                self._missed()
