"""An upstream that dies in mid-stream: every client sees that it has no whole, and nobody is charged (P2, P4)."""

from collections.abc import Iterator

import httpx
import msgspec
import openai
import pytest

from fakes.openai.behaviour import Behaviour, End
from integration.chain.harness import Chain, curl
from support.waiting import until

BODY = {"model": "tts-1", "voice": "alloy", "input": "This is cut in the middle. " * 20, "response_format": "pcm"}
DEATHS = [End.CUT, End.SHORT]
SHAPES = ["audio", "sse"]


@pytest.fixture(autouse=True)
def clean(chain: Chain) -> Iterator[None]:
    yield
    chain.upstream.behaviours.clear()


def doom(chain: Chain, end: End, times: int = 1) -> None:
    chain.upstream.behaviours.extend(Behaviour(end=end, pieces_before_end=5, pause_s=0.5) for _ in range(times))


async def used(chain: Chain) -> int:
    balance = await chain.house.balance(chain.account)
    return balance.used + balance.held


async def is_uncharged(chain: Chain, before: int) -> bool:
    return await used(chain) == before


@pytest.mark.parametrize("end", DEATHS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_curl_ends_with_another_status_than_zero(chain: Chain, end: End, shape: str) -> None:
    before = await used(chain)
    doom(chain, end)
    status, got = await curl(chain, msgspec.json.encode({**BODY, "stream_format": shape}))
    assert status == 18, "curl calls it a partial file"
    assert got
    assert b"speech.audio.done" not in got
    await until(lambda: is_uncharged(chain, before), within_s=15)


@pytest.mark.parametrize("end", DEATHS)
async def test_the_sdk_raises(chain: Chain, end: End) -> None:
    """A plain call is repeated by the SDK, three times in all; then it gives up, and nothing was charged."""
    before = await used(chain)
    asked = len(chain.upstream.heard)
    doom(chain, end, times=3)
    async with openai.AsyncOpenAI(base_url=chain.base_url, api_key=chain.key) as client:
        with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
            await client.audio.speech.create(**BODY)  # pyright: ignore[reportArgumentType]
    assert len(chain.upstream.heard) - asked == 3
    await until(lambda: is_uncharged(chain, before), within_s=15)


@pytest.mark.parametrize("end", DEATHS)
async def test_the_sdk_raises_while_it_streams(chain: Chain, end: End) -> None:
    doom(chain, end)
    heard = bytearray()
    async with openai.AsyncOpenAI(base_url=chain.base_url, api_key=chain.key, max_retries=0) as client:
        streaming = client.audio.speech.with_streaming_response
        async with streaming.create(**BODY) as answer:  # pyright: ignore[reportArgumentType]

            async def hear() -> None:
                async for piece in answer.iter_bytes():
                    heard.extend(piece)

            with pytest.raises(Exception, match="peer closed connection"):
                await hear()
    assert heard


async def test_a_whole_one_is_whole(chain: Chain) -> None:
    """Else the tests above would prove nothing."""
    status, got = await curl(chain, msgspec.json.encode(BODY))
    assert (status, got) == (0, chain.upstream.heard[-1].audio)
