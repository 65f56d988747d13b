"""Waiting for a condition instead of for a time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool] | bool], *, within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if not isinstance(held, bool):
                held = await held
            if held:
                return
            await asyncio.sleep(0.01)
