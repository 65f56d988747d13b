"""Waiting for a condition instead of for a time."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.client import Client


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


async def round_trip(client: Client) -> None:
    """Return when the server has read all that `client` sent before, subscriptions among it."""
    # Twice: nats-py writes the ping of the first past what still waits to be written.
    for _ in range(2):
        await client.flush(timeout=5)
