"""Many long streams at once: every byte of each arrives (P4)."""

import asyncio
from collections.abc import AsyncGenerator
from hashlib import sha256

import httpx
import msgspec
import pytest

from fakes import tones
from fakes.serving import Delays
from integration.chain.harness import Chain, open_chain
from support.databases import Databases

MINUTE = "A" * 1000
"""The fake speaks for a minute."""
LENGTHS = 4
STREAMS = 60


@pytest.fixture(scope="module")
async def crowded(nats_url: str, databases: Databases) -> AsyncGenerator[Chain]:
    for more in range(LENGTHS):
        # Made now, since encoding in the loop that serves would hold everything up.
        tones.audio(len(MINUTE) + more, "mp3", 24_000)
    async with open_chain(nats_url, databases, delays=Delays(between_s=0.01), pieces=12) as opened:
        yield opened


async def speak(client: httpx.AsyncClient, text: str) -> str:
    """The digest of the whole body."""
    body = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "mp3"}
    digest = sha256()
    async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.status_code == 200
        async for piece in answer.aiter_raw():
            digest.update(piece)
    return digest.hexdigest()


async def test_streams_of_a_minute_are_all_exact(crowded: Chain) -> None:
    """P4: by digest, each against what the upstream sent for it."""
    texts = [MINUTE + "a" * (number % LENGTHS) for number in range(STREAMS)]
    # One client: each reads the certificates anew, which would hold up the loop that all of it runs in for seconds.
    async with crowded.client() as client:
        got = await asyncio.gather(*(speak(client, text) for text in texts))
    sent = {len(msgspec.json.decode(heard.body)["input"]): sha256(heard.audio) for heard in crowded.upstream.heard}
    assert got == [sent[len(text)].hexdigest() for text in texts]
    balance = await crowded.house.balance(crowded.account)
    assert balance.used == sum(map(len, texts))
