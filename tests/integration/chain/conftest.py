"""One chain for a module."""

from collections.abc import AsyncGenerator

import pytest

from fakes.serving import Delays
from integration.chain.harness import Chain, open_chain
from support.databases import Databases


@pytest.fixture(scope="module")
async def chain(nats_url: str, databases: Databases) -> AsyncGenerator[Chain]:
    async with open_chain(nats_url, databases, delays=Delays(between_s=0.02), pieces=20) as opened:
        yield opened
