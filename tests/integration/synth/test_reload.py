"""The routing changes while speeches are under way: they end as they began, and a bad file changes nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from integration.synth.caller import WITHIN_S, listen, request, synth_settings
from integration.synth.harness import House, open_house
from odea_contracts import synth
from odea_synth.app import Source, serve_routing
from odea_synth.routing.file import RoutingFile
from odea_synth.routing.reading import ProviderPlan
from support.databases import Databases
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

ONE = '[providers.{0}]\nkind = "piper"\n[models.tts-1]\nroutes = [{{ provider = "{0}" }}]\n'


@dataclass
class Theatre:
    """A house with the file that it follows, and the providers that it was told of."""

    house: House
    path: Path
    providers: dict[str, ScriptedProvider]
    closed: list[str]


class Closing(ScriptedProvider):
    """Notes when it is closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        super().__init__(name=name)
        self._closed = closed

    async def close(self) -> None:
        await super().close()
        self._closed.append(self.name)


@pytest.fixture
async def theatre(nats_url: str, databases: Databases, tmp_path: Path) -> AsyncGenerator[Theatre]:
    settings = synth_settings(nats_url, await databases.create("synth"))
    providers: dict[str, ScriptedProvider] = {}
    closed: list[str] = []

    def make(plan: ProviderPlan) -> ScriptedProvider:
        providers[plan.name] = Closing(plan.name, closed)
        return providers[plan.name]

    path = tmp_path / "routing.toml"
    path.write_text(ONE.format("old"))
    # So seldom that only a signal makes it look.
    file = RoutingFile(path, {}, every_s=3600)
    serve = partial(serve_routing, Source(plan=await file.read(), file=file), settings, make=make)
    async with open_house(settings, await databases.create("quota"), serve) as house:
        yield Theatre(house, path, providers, closed)


async def owners(theatre: Theatre) -> set[str | None]:
    reply = await theatre.house.bus.call(synth.VOICES, synth.Voices(model="tts-1"))
    return {voice.provider for voice in reply.voices} if isinstance(reply, synth.VoiceList) else set()


async def test_a_speech_ends_where_it_began_and_the_next_goes_elsewhere(theatre: Theatre) -> None:
    house = theatre.house
    account = await house.open_account()
    gate = asyncio.Event()
    long = request(account, "Begun before.")
    theatre.providers["old"].announce(long.input, spoken(3), gate.wait, spoken(13))
    async with house.speak(long) as stream:
        hearing = asyncio.create_task(listen(stream))
        await until(lambda: house.is_held(long), within_s=WITHIN_S)
        theatre.path.write_text(ONE.format("new"))
        os.kill(os.getpid(), signal.SIGHUP)

        async def moved() -> bool:
            return await owners(theatre) == {"new"}

        await until(moved, within_s=WITHIN_S)
        assert theatre.closed == []
        after = request(account, "Begun after.")
        theatre.providers["new"].announce(after.input, spoken(4))
        assert (await house.hear(after)).head.provider == "new"
        gate.set()
        assert (await hearing).head.provider == "old"
    await until(lambda: theatre.closed == ["old"], within_s=WITHIN_S)


async def test_a_file_that_is_no_good_changes_nothing_and_a_metric_says_so(theatre: Theatre) -> None:
    theatre.path.write_text("[providers.odd]\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: REGISTRY.get_sample_value("odea_synth_routing_good") == 0, within_s=WITHIN_S)
    assert await owners(theatre) == {"old"}
    assert theatre.closed == []
    theatre.path.write_text(ONE.format("old"))
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: REGISTRY.get_sample_value("odea_synth_routing_good") == 1, within_s=WITHIN_S)
    assert theatre.closed == [], "the same plan keeps its line, with breaker and turns"
