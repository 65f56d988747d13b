"""The HTTP end: `granian bench.bare.front:app`."""

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator

import msgspec
import nats
from litestar import Litestar, Request, post
from litestar.response import Stream
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.bare.messages import REPLIES, SPEAK, Speech


class Front:
    """The connection, and who waits for which reply."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._waiting: dict[str, asyncio.Queue[bytes]] = {}
        self._numbers = itertools.count()

    async def start(self) -> None:
        """Connect."""
        self._client = await nats.connect(os.environ["BARE_NATS_URL"])
        await self._client.subscribe(f"{REPLIES}.*", cb=self._reply)

    async def speak(self, body: bytes) -> AsyncGenerator[bytes]:
        """The audio, piece by piece."""
        assert self._client
        number = str(next(self._numbers))
        queue = self._waiting[number] = asyncio.Queue()
        try:
            await self._client.publish(SPEAK, msgspec.json.encode(Speech(number, body)), f"{REPLIES}.{number}")
            while piece := await queue.get():
                yield piece
        finally:
            del self._waiting[number]

    async def _reply(self, message: Msg) -> None:
        queue = self._waiting.get(message.subject.rpartition(".")[2])
        if queue:
            queue.put_nowait(message.data)


front = Front()


@post("/v1/audio/speech", status_code=200)
async def speak(request: Request[None, None, None]) -> Stream:  # pyright: ignore[reportInvalidTypeArguments]
    """As Odea, and as bare as can be."""
    return Stream(front.speak(await request.body()), media_type="audio/mpeg")


app = Litestar([speak], on_startup=[front.start], openapi_config=None)
