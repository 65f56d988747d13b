"""A connection to the bus that most tests here begin with."""

from collections.abc import AsyncGenerator

import pytest

from integration.runtime.harness import open_bus
from odea_runtime.bus import Bus


@pytest.fixture
async def bus(nats_url: str) -> AsyncGenerator[Bus]:
    """A caller; nobody serves unless the test does."""
    async with open_bus(nats_url) as opened:
        yield opened
