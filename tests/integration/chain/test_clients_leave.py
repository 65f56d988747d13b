"""A client that leaves: its upstream call is closed within a second, and it pays what the upstream billed (P2)."""

import asyncio
import time

import msgspec
import pytest

from integration.chain.harness import Chain
from support.waiting import until

TEXT = "Nobody will hear the end of this. " * 40


@pytest.mark.parametrize("shape", ["audio", "sse"])
async def test_the_upstream_is_left_within_a_second(chain: Chain, shape: str) -> None:
    before = (await chain.house.balance(chain.account)).used
    body = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm", "stream_format": shape}
    host, _, port = str(chain.gateway.http.address).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = msgspec.json.encode(body)
    writer.write(
        f"POST /v1/audio/speech HTTP/1.1\r\nhost: odea\r\nauthorization: Bearer {chain.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode()
        + content
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await reader.read(20_000)
    upstream = chain.upstream.heard[-1]
    assert not upstream.ended.is_set()
    writer.close()
    left_at = time.monotonic()
    async with asyncio.timeout(10):
        await upstream.ended.wait()
    assert time.monotonic() - left_at < 1.0
    assert upstream.left

    async def is_charged() -> bool:
        balance = await chain.house.balance(chain.account)
        return (balance.used - before, balance.held) == (upstream.billed_units, 0)

    await until(is_charged, within_s=15)
    assert upstream.billed_units == len(TEXT)
