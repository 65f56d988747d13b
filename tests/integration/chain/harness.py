"""From a client's connection to the upstream's and back: all of it real, but for the keys and the paid upstream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from faststream.nats import NatsRouter
from pydantic import SecretStr

from fakes.openai.app import KEY, FakeOpenAI
from fakes.serving import Delays, serving
from integration.gateway.harness import client_of, running, settings_for
from integration.gateway.standins import Keys
from integration.synth.caller import synth_settings
from integration.synth.harness import House, open_house, with_provider
from odea_contracts import keys
from odea_gateway.app import Gateway
from odea_runtime.bus import Bus
from odea_runtime.serving import serve
from odea_runtime.tasks import Tasks
from odea_synth.providers.credentials import Credential
from odea_synth.providers.openai import OpenAIOptions, OpenAIProvider
from odea_synth.providers.upstream import UpstreamOptions
from support.databases import Databases

STREAMS_MAX = 600


@dataclass(frozen=True, kw_only=True)
class Chain:
    """All of it, with an account and a key."""

    upstream: FakeOpenAI
    upstream_url: str
    house: House
    gateway: Gateway
    account: str
    key: str

    @property
    def base_url(self) -> str:
        """What an SDK is told."""
        return f"http://{self.gateway.http.address}/v1"

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"{self.base_url}/audio/speech"

    def client(self) -> httpx.AsyncClient:
        """An HTTP client with the key."""
        return client_of(self.gateway, self.key)

    async def outcome(self, request_id: str) -> str | None:
        """What the request log says of a request."""
        query = "SELECT outcome FROM synth.requests WHERE request_id = $1"
        return await self.house.log.fetchval(query, request_id)


@asynccontextmanager
async def open_chain(
    nats_url: str,
    databases: Databases,
    *,
    delays: Delays | None = None,
    pieces: int = 4,
    silence_s: float = 2.5,
    **config: Any,
) -> AsyncGenerator[Chain]:
    """Serve until the block is left; `config` is what the routing says of the provider.

    After `silence_s` without a sign of life, synth takes the gateway for dead.
    """
    upstream = FakeOpenAI(delays=delays, pieces=pieces)
    async with serving(upstream.app) as url:
        options = OpenAIOptions(
            base_url=f"{url}/v1",
            credentials=(Credential(name="tests", secret=SecretStr(KEY)),),
            upstream=UpstreamOptions(streams_max=STREAMS_MAX),
        )
        settings = synth_settings(nats_url, await databases.create("synth"), stream_silence_s=str(silence_s))
        serve_synth = with_provider(OpenAIProvider(options), settings, **config)
        async with open_house(settings, await databases.create("quota"), serve_synth) as house:
            account = await house.open_account(10**9)
            async with knowing(nats_url, account) as key, running(settings_for(nats_url)) as gateway:
                yield Chain(upstream=upstream, upstream_url=url, house=house, gateway=gateway, account=account, key=key)


@asynccontextmanager
async def knowing(nats_url: str, account: str) -> AsyncGenerator[str]:
    """A stand-in for keys that knows one key of the account; the text of it."""
    known, tasks, router = Keys(), Tasks(1000), NatsRouter()
    serve(router, tasks, keys.VERIFY, known.verify)
    bus = Bus(settings_for(nats_url), "keys", router)
    await bus.start()
    try:
        yield known.issue(keys.Scope.SPEECH, keys.Scope.USAGE_READ, tenant_id=account)
    finally:
        await tasks.drain(2.0)
        await bus.stop()


async def curl(chain: Chain, body: bytes, *options: str) -> tuple[int, bytes]:
    """The exit status of `curl`, and what it was given."""
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-o", "-", *options, "-H", f"authorization: Bearer {chain.key}"),
        *("-H", "content-type: application/json", "--data-binary", "@-", chain.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate(body)
    return process.returncode or 0, out
