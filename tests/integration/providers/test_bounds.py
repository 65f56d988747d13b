"""What an upstream sends without end, and what a reader leaves unread, fills no memory (P10); many stay apart."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from fakes.minimax import FakeMiniMax
from fakes.minimax.app import KEY
from fakes.openai import FakeOpenAI
from fakes.serving import serving
from integration.providers.harness import credentials, minimax, openai, say, text
from odea_synth.providers.base import ErrorClass, Provider
from odea_synth.providers.minimax import MiniMaxOptions, MiniMaxProvider
from odea_synth.providers.upstream import UpstreamOptions

MB = 1024 * 1024
# What the sockets of both ends hold, however little is read.
SOCKETS_BYTES = 16 * MB
BLOCKED_S = 0.5


class Torrent:
    """Sends the same piece until nobody takes it any more."""

    def __init__(self, content_type: str, piece: bytes) -> None:
        self.sent_bytes = 0
        self.blocked = asyncio.Event()
        self.left = asyncio.Event()
        self._content_type = content_type
        self._piece = piece
        self.app = web.Application()
        self.app.add_routes([web.post("/v1/t2a_v2", self._pour)])

    async def _pour(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": self._content_type})
        await response.prepare(request)
        try:
            while True:
                async with asyncio.timeout(BLOCKED_S):
                    await response.write(self._piece)
                self.sent_bytes += len(self._piece)
        except TimeoutError:
            self.blocked.set()
            await asyncio.Event().wait()
            return response
        finally:
            self.left.set()


@asynccontextmanager
async def before(torrent: Torrent, upstream: UpstreamOptions) -> AsyncGenerator[Provider]:
    async with serving(torrent.app) as url:
        provider = MiniMaxProvider(MiniMaxOptions(credentials=credentials(KEY), base_url=url, upstream=upstream))
        await provider.start()
        try:
            yield provider
        finally:
            await provider.close()


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_a_line_or_a_body_without_end_is_given_up(content_type: str) -> None:
    torrent = Torrent(content_type, b"x" * 65_536)
    bounds = UpstreamOptions(line_bytes_max=MB, body_bytes_max=MB)
    async with before(torrent, bounds) as provider, asyncio.timeout(20):
        error = (await say(provider, text())).failed
        assert error.error_class is ErrorClass.UPSTREAM
        assert "longer than 1048576 bytes" in error.detail
        await torrent.left.wait()
    assert torrent.sent_bytes < MB + SOCKETS_BYTES


async def test_audio_without_end_is_given_up() -> None:
    event = b'data: {"data":{"audio":"' + b"00" * 30_000 + b'","status":1}}\n\n'
    torrent = Torrent("text/event-stream", event)
    async with before(torrent, UpstreamOptions(audio_bytes_max=MB)) as provider, asyncio.timeout(20):
        said = await say(provider, text())
        assert said.failed.error_class is ErrorClass.UPSTREAM
        assert len(said.audio) <= MB
        await torrent.left.wait()


async def test_a_reader_who_stops_stops_the_upstream() -> None:
    event = b'data: {"data":{"audio":"' + b"00" * 30_000 + b'","status":1}}\n\n'
    torrent = Torrent("text/event-stream", event)
    async with before(torrent, UpstreamOptions()) as provider, asyncio.timeout(30):
        stream = provider.stream(text())
        assert await anext(stream)
        await torrent.blocked.wait()
        assert torrent.sent_bytes < SOCKETS_BYTES
        await stream.aclose()
        async with asyncio.timeout(1):
            await torrent.left.wait()


@pytest.mark.parametrize("kind", ["minimax", "openai"])
async def test_a_hundred_at_once_each_get_their_own(kind: str) -> None:
    texts = [f"{number} " * (1 + number % 40) for number in range(100)]
    fake = FakeMiniMax() if kind == "minimax" else FakeOpenAI()
    opened = minimax(fake) if isinstance(fake, FakeMiniMax) else openai(fake)
    changes = {} if kind == "minimax" else {"model": "tts-1", "voice": "alloy"}
    async with opened as provider:
        said = await asyncio.gather(*(say(provider, text(words, **changes)) for words in texts))
    heard = sorted((len(one.audio), hashlib.sha256(one.audio).hexdigest()) for one in fake.heard)
    assert sorted((len(one.audio), hashlib.sha256(one.audio).hexdigest()) for one in said) == heard
    assert all(one.error is None for one in said)
    assert sum(one.chunks[-1].billed_units for one in said) == fake.billed_units == sum(map(len, texts))
