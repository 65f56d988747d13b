"""Synthesis and encoding are heavy, and run beside the event loop: one slow speech delays nobody else's I/O."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from integration.synth.caller import request, synth_settings
from integration.synth.harness import open_house, with_provider
from odea_contracts.synth import AudioFormat
from odea_synth.providers.piper import PiperOptions, PiperProvider
from support.databases import Databases


async def test_piper_and_the_encoder_do_not_hold_up_the_loop(nats_url: str, databases: Databases) -> None:
    """One long sentence takes Piper and the MP3 encoder a second and more, in which others must be served."""
    sentence = "and so it went on without a stop or a comma " * 4
    settings = synth_settings(nats_url, await databases.create("synth"))
    piper = PiperProvider(PiperOptions())
    async with open_house(settings, await databases.create("quota"), with_provider(piper, settings)) as house:
        account = await house.open_account(units=10_000)
        warm = await house.hear(request(account, "Ready?", voice="alloy"))
        assert warm.tail.units == 6
        asked = request(account, sentence, voice="alloy", response_format=AudioFormat.MP3)
        async with stopwatch() as stalls:
            began = time.monotonic()
            await house.hear(asked)
            took_s = time.monotonic() - began
    # A busy machine, which takes longer in all, may keep the loop waiting for longer, too.
    assert max(stalls) < max(0.1, took_s / 10), f"{max(stalls):.3f} s of {took_s:.1f} s"


@asynccontextmanager
async def stopwatch() -> AsyncGenerator[list[float]]:
    """How late the loop came back to something that wanted its turn every few milliseconds."""
    late: list[float] = []
    pause_s = 0.005

    async def watch() -> None:
        while True:
            due = time.monotonic() + pause_s
            await asyncio.sleep(pause_s)
            late.append(time.monotonic() - due)

    watching = asyncio.create_task(watch())
    try:
        yield late
    finally:
        watching.cancel()
