"""Synthesis is heavy, and runs beside the event loop: one slow speech delays nobody else's I/O."""

from integration.synth.caller import request, synth_settings
from integration.synth.harness import open_house, with_provider
from odea_contracts.synth import AudioFormat
from odea_synth.providers.piper import PiperOptions, PiperProvider
from support.databases import Databases
from support.stalls import watch_for_stalls


async def test_piper_does_not_hold_up_the_loop(nats_url: str, databases: Databases) -> None:
    """A long sentence without a pause takes the voice most of a second."""
    settings = synth_settings(nats_url, await databases.create("synth"))
    piper = PiperProvider(PiperOptions())
    async with open_house(settings, await databases.create("quota"), with_provider(piper, settings)) as house:
        account = await house.open_account()
        warm = await house.hear(request(account, "Ready?", voice="alloy"))
        assert warm.tail.units == 6
        text = "and so it went on without a stop or a comma " * 4
        async with watch_for_stalls() as stalls:
            await house.hear(request(account, text, voice="alloy", response_format=AudioFormat.MP3))
    assert stalls.stay_below(0.25), stalls
