"""A gateway with stand-ins for the services behind it, shared by the tests of a module."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from integration.gateway.harness import client_of, running, settings_for
from integration.gateway.standins import Standins, standing_in
from odea_contracts.keys import Scope
from odea_gateway.app import Gateway
from support.servers import NatsServer


@pytest.fixture
def own_nats_url(breakable_nats: NatsServer) -> str:
    """A NATS where the services of the module do not answer too."""
    return breakable_nats.url


@pytest.fixture(scope="module")
async def services(nats_url: str) -> AsyncGenerator[Standins]:
    """Keys, quota and synth for all tests of a module."""
    async with standing_in(settings_for(nats_url)) as parts:
        yield parts


@pytest.fixture(scope="module")
async def gateway(nats_url: str, services: Standins) -> AsyncGenerator[Gateway]:
    """A gateway that reaches them."""
    assert services
    async with running(settings_for(nats_url)) as gateway:
        yield gateway


@pytest.fixture
async def standins(services: Standins) -> Standins:
    """The same three, as if they had just started."""
    services.reset()
    return services


@pytest.fixture
async def key(standins: Standins) -> str:
    """A good key that may speak."""
    return standins.keys.issue(Scope.SPEECH)


@pytest.fixture
async def client(gateway: Gateway, key: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A caller with a good key."""
    async with client_of(gateway, key) as client:
        yield client
