"""Runs a fake: in this process on a free port, or as a process until it is told to stop."""

import asyncio
import random
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import click
from aiohttp import web


@dataclass(frozen=True, kw_only=True)
class Delays:
    """How long a fake takes: a log-normal distribution around each median, the same for the same seed."""

    first_s: float = 0.0
    between_s: float = 0.0
    sigma: float = 0.0
    seed: int = 1
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_random", random.Random(self.seed))

    async def first(self) -> None:
        """Until the first byte."""
        await self._wait(self.first_s)

    async def between(self) -> None:
        """Between two pieces of audio."""
        await self._wait(self.between_s)

    async def _wait(self, median_s: float) -> None:
        if median_s:
            await asyncio.sleep(median_s * self._random.lognormvariate(0, self.sigma))


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncGenerator[str]:
    """Serve on loopback; gives the URL. A handler whose client leaves is cancelled, as an upstream stops its work."""
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        host, bound = runner.addresses[0][:2]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()


async def serve_forever(app: web.Application, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the URL is printed first."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(app, port) as url:
        click.echo(url)
        await stop.wait()


async def write(response: web.StreamResponse, data: bytes, split_bytes: int | None) -> None:
    """Send `data` in one go, or in pieces that the client gets one by one."""
    for start in range(0, len(data), split_bytes or max(1, len(data))):
        await response.write(data[start : start + (split_bytes or len(data))])
        if split_bytes:
            await asyncio.sleep(0)


def cut(request: web.Request) -> None:
    """End the connection so that the client sees a body without its end."""
    with suppress(AttributeError):
        assert request.transport
        request.transport.abort()
