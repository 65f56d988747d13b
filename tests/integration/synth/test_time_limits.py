"""P10 against providers that take their time: each wait has its own limit, and so has the whole."""

import asyncio
import itertools
import time

import pytest

from integration.synth.caller import request
from integration.synth.harness import Books, House
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import CancelReason
from odea_runtime.streams import IncomingStream, RefusedError
from odea_synth.providers.base import Chunk
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

WHOLE_S = 2.0


@pytest.fixture(scope="module")
def house_settings() -> dict[str, str]:
    return {"synth_first_audio_s": "0.3", "synth_next_audio_s": "0.3", "synth_speech_s": str(WHOLE_S)}


async def test_a_provider_that_never_begins_is_given_up(house: House, provider: ScriptedProvider, account: str) -> None:
    asked = request(account, "Never begun.")
    performance = provider.announce(asked.input, asyncio.Event().wait)
    began = time.monotonic()
    failure = await house.refusal(asked)
    assert time.monotonic() - began < WHOLE_S
    assert failure.code is ErrorCode.UPSTREAM_TIMEOUT
    assert performance.closed.is_set()
    assert await house.books(asked) == Books(kind="released", logged="provider_failed")


async def test_a_provider_that_stops_in_the_middle_is_given_up_and_written_off(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Begun and never ended.")
    performance = provider.announce(asked.input, spoken(5), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await stream.head()
        began = time.monotonic()
        with pytest.raises(RefusedError) as refused:
            _ = [frame async for frame in stream]
    assert time.monotonic() - began < WHOLE_S
    assert refused.value.failure.code is ErrorCode.UPSTREAM_TIMEOUT
    assert performance.closed.is_set()
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=5,
        logged="provider_failed",
        logged_provider_units=5,
    )


@pytest.mark.parametrize("endless", [Chunk(audio=b"", billed_units=2), spoken(2)], ids=["empty", "audio"])
async def test_a_provider_that_never_ends_is_given_up(
    house: House, provider: ScriptedProvider, account: str, endless: Chunk
) -> None:
    """Each chunk comes in time; the limit of the whole is what ends it, and its hold with it (P3)."""

    async def turn() -> None:
        await asyncio.sleep(0.01)

    asked = request(account, f"On and on, {len(endless.audio)} bytes at a time.")
    performance = provider.announce(asked.input, then=itertools.cycle([endless, turn]))
    failure = await house.refusal(asked)
    assert failure.code is ErrorCode.UPSTREAM_TIMEOUT
    assert performance.closed.is_set()
    assert (await house.books(asked)).outcome == "written_off"


@pytest.mark.parametrize("heard", [True, False], ids=["in the middle", "before the first audio"])
async def test_a_caller_who_leaves_while_a_provider_is_given_up_pays_nothing(
    house: House, provider: ScriptedProvider, account: str, heard: bool
) -> None:
    """P2: it was cut, and whether its caller stayed to see the end of that does not matter."""
    given_up = asyncio.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
            await asyncio.Event().wait()

    asked = request(account, f"Given up for long, heard: {heard}.")
    provider.announce(asked.input, spoken(7) if heard else Chunk(audio=b"", billed_units=7), linger)
    async with house.speak(asked) as stream:
        await given_up.wait()
        await stream.cancel(CancelReason.CLIENT_GONE)
    assert await house.books(asked) == Books(
        kind="settled", outcome="written_off", provider_units=7, logged="provider_failed", logged_provider_units=7
    )


async def test_a_caller_who_leaves_while_a_speech_is_ended_that_took_too_long_pays_nothing(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """The same for the limit of the whole."""
    given_up = asyncio.Event()

    async def turn() -> None:
        try:
            # Nearly all of the time is spent here, so it is here that the limit interrupts.
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.Event().wait()

    asked = request(account, "On and on, and then nothing.")
    provider.announce(asked.input, then=itertools.cycle([spoken(2), turn]))
    async with house.speak(asked) as stream:
        await stream.head()
        parts = asyncio.create_task(listen_on(stream))
        await given_up.wait()
        await stream.cancel(CancelReason.CLIENT_GONE)
        parts.cancel()
        await asyncio.wait([parts])
    assert await house.books(asked) == Books(
        kind="settled", outcome="written_off", provider_units=2, logged="provider_failed", logged_provider_units=2
    )


async def listen_on(stream: IncomingStream) -> None:
    async for _ in stream:
        pass


async def test_a_receiver_that_lives_and_takes_nothing_is_given_up(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """Beats alone do not keep a speech open for ever. Nor does a provider that is full of audio run ahead."""
    asked = request(account, "Nobody takes this.", credits=2)
    performance = provider.announce(asked.input, then=itertools.repeat(spoken(2)))
    async with house.speak(asked) as stream:
        await stream.head()
        await performance.closed.wait()
        with pytest.raises(RefusedError):
            _ = [frame async for frame in stream]
        await stream.cancel(CancelReason.RECEIVER_FAULT)
    await until(lambda: provider.open_streams == 0)
    assert (await house.books(asked)).outcome == "written_off"
