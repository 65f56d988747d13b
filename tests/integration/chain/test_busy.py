"""A provider that takes no more: whoever finds its line full hears when to come back, and is served then (P10)."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import openai
import pytest
from prometheus_client import REGISTRY

from integration.chain.harness import Chain, open_chain
from support.databases import Databases
from support.waiting import until

INTERVAL_S = 2
SPEECH = "/v1/audio/speech"
BODY = {"model": "tts-1", "voice": "alloy", "input": "One at a time, please.", "response_format": "pcm"}


@pytest.fixture(scope="module")
async def busy(nats_url: str, databases: Databases) -> AsyncGenerator[Chain]:
    per_minute = 60 // INTERVAL_S
    async with open_chain(nats_url, databases, requests_per_minute=per_minute, burst=1, waiting_max=1) as opened:
        yield opened


def somebody_waits() -> bool:
    return REGISTRY.get_sample_value("odea_synth_waiting", {"provider": "openai"}) == 1


async def until_full(client: httpx.AsyncClient) -> "asyncio.Task[httpx.Response]":
    """The one whose waiting fills the line."""
    waiting = asyncio.create_task(client.post(SPEECH, json=BODY))
    await until(somebody_waits)
    return waiting


async def test_a_full_line_answers_with_the_time_after_which_one_is_served(busy: Chain) -> None:
    async with busy.client() as client:
        assert (await client.post(SPEECH, json=BODY)).status_code == 200
        waiting = await until_full(client)
        refused = await client.post(SPEECH, json=BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_busy")
        # One turn for whoever waits and one for whoever comes back, in whole seconds.
        assert INTERVAL_S <= int(refused.headers["retry-after"]) <= 2 * INTERVAL_S + 1
        assert refused.headers.get("x-should-retry") != "false"
        assert (await waiting).status_code == 200
        waiting = await until_full(client)
        async with openai.AsyncOpenAI(base_url=busy.base_url, api_key=busy.key, max_retries=1) as sdk:
            # It is refused like the one before, waits as long as it was told, and asks a second time.
            speech = await sdk.audio.speech.create(**BODY)  # pyright: ignore[reportArgumentType]
        assert (await waiting).status_code == 200
    assert speech.content == busy.upstream.heard[-1].audio
    assert len(busy.upstream.heard) == 4
    balance = await busy.house.balance(busy.account)
    assert (balance.used, balance.held) == (4 * len(BODY["input"]), 0)
