"""A house for each module: quota and synth on databases of their own, with a provider that tests write scripts for."""

from collections.abc import AsyncGenerator

import pytest

from integration.synth.caller import synth_settings
from integration.synth.harness import House, open_house, with_provider
from support.databases import Databases
from support.scripted import ScriptedProvider


@pytest.fixture(scope="module")
def house_settings() -> dict[str, str]:
    """What a module wants to be different in the synth service; modules have their own."""
    return {}


@pytest.fixture(scope="module")
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture(scope="module")
async def house(
    nats_url: str, databases: Databases, provider: ScriptedProvider, house_settings: dict[str, str]
) -> AsyncGenerator[House]:
    settings = synth_settings(nats_url, await databases.create("synth"), **house_settings)
    async with open_house(settings, await databases.create("quota"), with_provider(provider, settings)) as opened:
        yield opened


@pytest.fixture
async def account(house: House) -> str:
    """An account with 1000 units and no other limit."""
    return await house.open_account()
