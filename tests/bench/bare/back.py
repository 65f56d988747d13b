"""Between bus and upstream: `python -m bench.bare.back`. Reserve, ask, pass on, settle."""

import asyncio
import os

import aiohttp
import httpx
import msgspec
import nats
import uvloop
from httpx_aiohttp import AiohttpTransport
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.bare.messages import RESERVE, SETTLE, SPEAK, Hold, Speech
from bench.upstream import Asked

CONNECTIONS_MAX = 4096
WITHIN_S = 30.0


class Back:
    """Speaks each request in a task of its own."""

    def __init__(self, bus: Client, upstream: httpx.AsyncClient) -> None:
        self._bus = bus
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, message: Msg) -> None:
        """Begin it."""
        task = asyncio.create_task(self._speak(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _speak(self, message: Msg) -> None:
        speech = msgspec.json.decode(message.data, type=Speech)
        units = len(msgspec.json.decode(speech.body, type=Asked).input)
        hold = msgspec.json.encode(Hold(speech.id, units))
        await self._bus.request(RESERVE, hold, timeout=WITHIN_S)
        headers = {"content-type": "application/json"}
        asked = self._upstream.stream("POST", "/v1/audio/speech", content=speech.body, headers=headers)
        async with asked as response:
            async for piece in response.aiter_raw():
                await self._bus.publish(message.reply, piece)
        await self._bus.request(SETTLE, hold, timeout=WITHIN_S)
        await self._bus.publish(message.reply, b"")


async def main() -> None:
    """Serve until killed."""
    bus = await nats.connect(os.environ["BARE_NATS_URL"])

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX))

    async with httpx.AsyncClient(
        transport=AiohttpTransport(client=session), base_url=os.environ["BARE_UPSTREAM_URL"], timeout=WITHIN_S
    ) as upstream:
        await bus.subscribe(SPEAK, cb=Back(bus, upstream).receive)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
