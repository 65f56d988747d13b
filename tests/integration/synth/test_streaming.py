"""Audio flows while it is made, as fast as it is taken, and no speech stands in another's way (P4, P10)."""

import asyncio
import itertools
import random

from integration.synth.caller import request
from integration.synth.harness import House
from odea_contracts.synth import FRAME_BYTES_MAX, AudioFormat, CancelReason
from odea_synth.providers.base import Chunk
from support.scripted import RATE_HZ, ScriptedProvider, spoken
from support.stalls import watch_for_stalls
from support.waiting import until


async def test_the_first_audio_leaves_before_the_second_is_made(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "First. Second.")
    gate = asyncio.Event()
    performance = provider.announce(asked.input, spoken(6), gate.wait, spoken(14, level=2))
    async with house.speak(asked) as stream:
        await stream.head()
        frames = aiter(stream)
        assert await anext(frames) == spoken(6).audio
        assert performance.given == 1
        gate.set()
        assert b"".join([frame async for frame in frames]) == spoken(14, level=2).audio


async def test_a_reader_who_takes_nothing_stops_the_provider_at_the_window_and_starts_it_again(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """P10: at most the window is under way and one more chunk in hand, however much the provider has."""
    window = 4
    asked, clock = request(account, "More than anybody takes.", credits=window), request(account, "Tick.")
    chunks = [spoken(1 + number, level=number) for number in range(40)]
    performance = provider.announce(asked.input, *chunks)
    async with house.speak(asked) as stream:
        await stream.head()
        await until(lambda: performance.given == window + 1)
        for _ in range(20):
            # Others come through meanwhile, and this one does not move.
            provider.announce(clock.input, spoken(5))
            await house.hear(clock)
        assert performance.given == window + 1
        audio = b"".join([frame async for frame in stream])
    assert audio == b"".join(chunk.audio for chunk in chunks)


async def test_a_chunk_of_many_frames_waits_for_credit_in_its_middle(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """One chunk may be longer than the whole window; its rest waits and arrives in order."""
    asked = request(account, "A very long sentence.", credits=2)
    audio = bytes(itertools.islice(itertools.cycle(range(251)), 5 * FRAME_BYTES_MAX + 1234))
    provider.announce(asked.input, Chunk(audio=audio, billed_units=21))
    heard = await house.hear(asked)
    assert (heard.audio, heard.tail.frames) == (audio, 6)


async def test_a_hundred_speeches_at_once_get_their_own_audio_and_nobody_elses(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    async def speak(number: int) -> None:
        asked = request(account, f"Number {number:03}")
        chunks = [spoken(part + 1, level=100 * number + part) for part in range(8)]
        provider.announce(asked.input, *chunks)
        heard = await house.hear(asked)
        assert heard.audio == b"".join(chunk.audio for chunk in chunks)
        assert heard.tail.units == 8

    await asyncio.gather(*(speak(number) for number in range(100)))
    balance = await house.balance(account)
    assert (balance.used, balance.held, balance.in_flight) == (800, 0, 0)


async def test_a_long_piece_is_encoded_beside_the_loop(house: House, provider: ScriptedProvider, account: str) -> None:
    """A provider may give a whole minute at once; its encoding is no reason for anybody to wait."""
    asked = request(account, "A minute in one piece.", response_format=AudioFormat.MP3)
    noise = random.Random(4711).randbytes(60 * 2 * RATE_HZ)
    provider.announce(asked.input, Chunk(audio=noise, billed_units=22))
    async with watch_for_stalls() as stalls:
        await house.hear(asked)
    assert stalls.stay_below(0.25), stalls


async def test_whoever_leaves_while_the_encoder_works_leaves_it_before_it_is_closed(
    house: House, provider: ScriptedProvider
) -> None:
    """An encoder that is closed under its thread's feet would take the process down. Many times, to meet the moment."""
    second = Chunk(audio=bytes(48_000), billed_units=3)

    async def leave(number: int) -> None:
        asked = request(await house.open_account(), f"Leaving {number}", response_format=AudioFormat.MP3)
        provider.announce(asked.input, then=itertools.repeat(second))
        async with house.speak(asked) as stream:
            await stream.head()
            await stream.cancel(CancelReason.CLIENT_GONE)
        assert (await house.books(asked)).logged == "client_gone"

    for number in range(10):
        await leave(number)
