"""How long an event loop keeps those waiting who want their turn."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

_PAUSE_S: Final = 0.005


class Stalls:
    """What was seen of the loop while it was watched."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.watched_s = 0.0

    def stay_below(self, share: float) -> bool:
        """Whether nobody waited for more than this share of the time. A busy machine takes longer for all of it.

        Below a tenth of a second nothing is proven: the machine itself may do that.
        """
        return self.longest_s < max(0.1, share * self.watched_s)

    def __repr__(self) -> str:
        return f"<a turn came {self.longest_s:.3f} s late in {self.watched_s:.1f} s>"


@asynccontextmanager
async def watch_for_stalls() -> AsyncGenerator[Stalls]:
    """Take a turn every few milliseconds while the block runs, and see how late it comes."""
    stalls = Stalls()

    async def watch() -> None:
        while True:
            due = time.monotonic() + _PAUSE_S
            await asyncio.sleep(_PAUSE_S)
            stalls.longest_s = max(stalls.longest_s, time.monotonic() - due)

    watching = asyncio.create_task(watch())
    began = time.monotonic()
    try:
        yield stalls
        # One more turn, for a stall that is not over yet.
        await asyncio.sleep(2 * _PAUSE_S)
    finally:
        stalls.watched_s = time.monotonic() - began
        watching.cancel()
