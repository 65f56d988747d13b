"""A client that takes a kilobyte a second of a long text: nothing is piled up for it, and nobody beside it waits."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx
import msgspec

from fakes import tones
from fakes.openai.app import FakeOpenAI
from fakes.openai.behaviour import Behaviour
from fakes.serving import serving
from support.upstreams import Served, stack_with
from support.waiting import until

SPEECH = "/v1/audio/speech"
LONG = {"model": "tts-1", "voice": "alloy", "input": "S" * 4096, "response_format": "pcm"}
LONG_BYTES = 32_000_000
"""More than sockets hold: on Linux up to 10 MB between two processes."""
SLOW_CLIENTS = 4
BYTES_A_SECOND = 1024
GROWTH_MB_MAX = 40.0
"""Without a bound it would be the 128 MB that all of them have asked for; the windows together are 4 MB."""
ROUNDS = 2
SLOWER_MAX = 1.5


async def test_a_slow_client_costs_no_memory_and_slows_nobody() -> None:
    """P10: what lies between the two ends is bounded by the window of the stream, in both processes."""
    upstream = FakeOpenAI(pieces=200)
    async with serving(upstream.app) as url, stack_with(url) as served, served.client() as client:
        await quick_ones(client)
        alone_s = min([await quick_ones(client) for _ in range(ROUNDS)])
        before = served.memory_mb()
        heard = len(upstream.heard)
        async with AsyncExitStack() as stack:
            upstream.behaviours.extend([Behaviour(body=bytes(LONG_BYTES))] * SLOW_CLIENTS)
            taken = [await stack.enter_async_context(dawdling(served)) for _ in range(SLOW_CLIENTS)]
            slow = upstream.heard[heard:]
            beside_s = min([await quick_ones(client) for _ in range(ROUNDS)])
            after = served.memory_mb()
            earlier = [each.bytes for each in taken]
            await until(lambda: all(each.bytes > was for each, was in zip(taken, earlier, strict=True)), within_s=10)
            assert not any(each.ended.is_set() for each in slow), "all of it went somewhere"
        # Before and after: if the machine itself became slower meanwhile, that is nobody's fault.
        alone_s = max(alone_s, min([await quick_ones(client) for _ in range(ROUNDS)]))
    grown = {name: after[name] - before[name] for name in before}
    assert max(grown.values()) < GROWTH_MB_MAX, grown
    assert beside_s < SLOWER_MAX * alone_s, (beside_s, alone_s)


class Taken:
    """How much a client has read."""

    bytes = 0


@asynccontextmanager
async def dawdling(served: Served) -> AsyncGenerator[Taken]:
    """Somebody who reads a kilobyte a second while the block is open, and has begun to."""
    address = urlsplit(served.stack.url)
    # The connection itself must not take much either.
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=BYTES_A_SECOND)
    content = msgspec.json.encode(LONG)
    head = f"POST {SPEECH} HTTP/1.1\r\nhost: odea\r\nauthorization: Bearer {served.key}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    taken = Taken()

    async def dawdle() -> None:
        while True:
            taken.bytes += len(await reader.readexactly(BYTES_A_SECOND))
            await asyncio.sleep(1)

    reading = asyncio.create_task(dawdle())
    try:
        await until(lambda: taken.bytes > 0)
        yield taken
    finally:
        reading.cancel()
        writer.close()


async def quick_ones(client: httpx.AsyncClient) -> float:
    """How long 200 short speeches take, twenty at a time, each of them whole."""
    body = {"model": "tts-1", "voice": "alloy", "input": "Quick.", "response_format": "pcm"}
    whole = len(tones.audio(len(body["input"]), "pcm", 24_000))

    async def speak() -> None:
        answer = await client.post(SPEECH, json=body)
        assert (answer.status_code, len(answer.content)) == (200, whole)

    began = time.perf_counter()
    for _ in range(10):
        await asyncio.gather(*(speak() for _ in range(20)))
    return time.perf_counter() - began
