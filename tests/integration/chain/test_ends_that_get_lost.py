"""The charge is durable and the end of the body never reaches the client: it is taken back (P2, P4)."""

import asyncio
import os
import signal
from dataclasses import dataclass, field

import httpx
import pytest

from fakes.serving import Delays
from integration.chain.harness import Chain, open_chain
from integration.gateway.harness import client_at, process
from odea_runtime.streams import OutgoingStream
from support.databases import Databases
from support.servers import NatsServer
from support.waiting import until

TEXT = "All in vain."
"""Short, so that all of its audio fits the window of a gateway that takes none."""
BODY = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
WITHIN_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Gated(Delays):
    """Waits between two pieces of audio until the gate is open."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def between(self) -> None:
        """Until the gate is open."""
        await self.gate.wait()


async def used(chain: Chain) -> int:
    query = "SELECT used FROM quota.balances WHERE account_id = $1"
    return await chain.house.ledger.fetchval(query, chain.account)


async def test_a_gateway_that_is_killed_with_the_tail_in_its_queue(nats_url: str, databases: Databases) -> None:
    """It is stopped first, so that everything is sent to it and nothing of that goes on to the client."""
    delays = Gated()
    async with (
        open_chain(nats_url, databases, delays=delays, pieces=4, silence_s=8) as chain,
        process(nats_url) as gateway,
        client_at(gateway.address, chain.key) as client,
    ):
        async with client.stream("POST", "/v1/audio/speech", json=BODY) as answer:
            assert answer.status_code == 200
            pieces = answer.aiter_raw()
            assert await anext(pieces)
            os.kill(gateway.pid, signal.SIGSTOP)
            delays.gate.set()

            async def is_charged() -> bool:
                return await used(chain) == len(TEXT)

            await until(is_charged, within_s=WITHIN_S)
            os.kill(gateway.pid, signal.SIGKILL)
            with pytest.raises(httpx.RemoteProtocolError):
                _ = [piece async for piece in pieces]

        async def is_taken_back() -> bool:
            return await used(chain) == 0

        await until(is_taken_back, within_s=WITHIN_S)
        assert await chain.house.differences() == []


async def test_a_bus_that_is_killed_before_the_tail_leaves(
    breakable_nats: NatsServer, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_tail = OutgoingStream.tail

    async def die_before(stream: OutgoingStream, units: int) -> None:
        await asyncio.to_thread(breakable_nats.kill)
        await send_tail(stream, units)

    async with open_chain(breakable_nats.url, databases, pieces=4) as chain, chain.client() as client:
        monkeypatch.setattr(OutgoingStream, "tail", die_before)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/audio/speech", json=BODY)
        assert await used(chain) == len(TEXT)
        await asyncio.to_thread(breakable_nats.restart)

        async def is_taken_back() -> bool:
            return await used(chain) == 0

        await until(is_taken_back, within_s=WITHIN_S)
        assert await chain.house.differences() == []


async def test_a_whole_body_is_charged_once_and_stays_so(nats_url: str, databases: Databases) -> None:
    async with open_chain(nats_url, databases) as chain, chain.client() as client:
        for count in (1, 2, 3):
            answer = await client.post("/v1/audio/speech", json=BODY)
            assert answer.status_code == 200
            request_id = answer.headers["x-request-id"]

            async def is_over(request_id: str = request_id) -> bool:
                return await chain.outcome(request_id) == "completed"

            await until(is_over, within_s=WITHIN_S)
            assert await used(chain) == count * len(TEXT)
        assert await chain.house.ledger.fetchval("SELECT count(*) FROM quota.reversals") == 0
