"""What takes too much or too long is refused or cut, and the gateway goes on (P7, P10)."""

import time
from collections.abc import AsyncGenerator

import httpx

from integration.gateway.harness import BODY, SPEECH, client_of, raw_exchange, staged
from odea_gateway.app import Gateway


async def test_a_hundred_megabytes_are_refused_unread(client: httpx.AsyncClient, gateway: Gateway) -> None:
    taken = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal taken
        while taken < 100_000_000:
            taken += 65_536
            yield b"x" * 65_536

    headers = {"content-type": "application/json", "content-length": "100000000"}
    try:
        answer = await client.post(SPEECH, content=endless(), headers=headers)
        assert answer.status_code == 413
    except httpx.TransportError:
        # The connection was closed under the upload, which is as good.
        assert gateway.edge.in_hand == 0
    assert taken < 50_000_000


async def test_a_silent_connection_is_closed(own_nats_url: str) -> None:
    """Also one that stops in the middle of its request's head."""
    async with staged(own_nats_url, silent_s="0.3") as (_, gateway, _client):
        began = time.perf_counter()
        for said in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            await raw_exchange(str(gateway.http.address), said, within_s=5)
        assert time.perf_counter() - began < 4


async def test_the_gateway_goes_on(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """After all that."""
    assert (await client.post(SPEECH, json=BODY)).status_code == 200
    async with client_of(gateway) as stranger:
        assert (await stranger.get("/")).status_code == 200
