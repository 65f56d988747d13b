"""P2 for those who leave: the caller pays what was billed until then, and what the receiver broke is on the house."""

import asyncio

import pytest

from integration.synth.caller import request
from integration.synth.harness import Books, House
from odea_contracts.synth import CancelReason
from odea_synth.providers.base import Chunk, ErrorClass, ProviderError
from support.scripted import ScriptedProvider, spoken
from support.waiting import until


@pytest.mark.parametrize("reason", [CancelReason.CLIENT_GONE, CancelReason.CLIENT_STALLED])
async def test_a_caller_who_leaves_pays_what_was_billed_until_then(
    house: House, provider: ScriptedProvider, account: str, reason: CancelReason
) -> None:
    asked = request(account, "Somebody leaves in the middle of this.")
    performance = provider.announce(asked.input, spoken(14), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await stream.head()
        assert await anext(aiter(stream)) == spoken(14).audio
        await stream.cancel(reason)
    async with asyncio.timeout(1.0):
        await performance.closed.wait()
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="client_left",
        charged=14,
        provider_units=14,
        logged=reason.value,
        logged_provider_units=14,
    )
    [row] = await house.rows(asked)
    assert row["audio_bytes"] == len(spoken(14).audio)


async def test_a_caller_who_leaves_pays_no_more_than_was_held(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Ten chars.")
    provider.announce(asked.input, spoken(40), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await stream.cancel(CancelReason.CLIENT_GONE)
    books = await house.books(asked)
    assert (books.charged, books.provider_units) == (10, 40)


async def test_a_caller_who_leaves_with_a_full_window_pays_for_what_was_made(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """The provider stands at its chunk and not in its work; it is closed there, too."""
    asked = request(account, "Stopped in front of a full window.", credits=2)
    performance = provider.announce(asked.input, spoken(3), spoken(6), spoken(9), spoken(12))
    async with house.speak(asked) as stream:
        await stream.head()
        await until(lambda: performance.given == 3)
        await stream.cancel(CancelReason.CLIENT_STALLED)
    async with asyncio.timeout(1.0):
        await performance.closed.wait()
    books = await house.books(asked)
    assert (books.outcome, books.charged, books.logged) == ("client_left", 9, "client_stalled")
    [row] = await house.rows(asked)
    assert row["audio_bytes"] == 2 * len(spoken(3).audio)


async def test_a_caller_who_leaves_before_anything_was_billed_pays_nothing(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Nobody waits for this.")
    performance = provider.announce(asked.input, asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await performance.began.wait()
        await stream.cancel(CancelReason.CLIENT_GONE)
    async with asyncio.timeout(5.0):
        await performance.closed.wait()
    assert await house.books(asked) == Books(kind="released", logged="client_gone")


async def test_a_caller_who_leaves_before_the_first_audio_pays_what_was_billed_for_that(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "This is billed before it is heard.")
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    provider.announce(asked.input, Chunk(audio=b"", billed_units=9), wait)
    async with house.speak(asked) as stream:
        await waits.wait()
        await stream.cancel(CancelReason.CLIENT_GONE)
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="client_left",
        charged=9,
        provider_units=9,
        logged="client_gone",
        logged_provider_units=9,
    )


@pytest.mark.parametrize("reason", [CancelReason.CLIENT_GONE, CancelReason.CLIENT_STALLED])
async def test_a_caller_who_leaves_while_a_failure_is_tidied_up_pays_nothing(
    house: House, provider: ScriptedProvider, account: str, reason: CancelReason
) -> None:
    """The provider cut it, and closing what is left of it takes a while."""
    failed = asyncio.Event()

    async def fail() -> None:
        try:
            raise ProviderError(ErrorClass.UPSTREAM, "It broke.")
        finally:
            failed.set()
            await asyncio.Event().wait()

    asked = request(account, f"Broken off, and then {reason}.")
    provider.announce(asked.input, spoken(9), fail)
    async with house.speak(asked) as stream:
        await failed.wait()
        await stream.cancel(reason)
    assert await house.books(asked) == Books(
        kind="settled", outcome="written_off", provider_units=9, logged="provider_failed", logged_provider_units=9
    )


async def test_a_fault_of_the_receiver_is_written_off(house: House, provider: ScriptedProvider, account: str) -> None:
    asked = request(account, "The gateway stumbles over this.")
    performance = provider.announce(asked.input, spoken(11), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        # Leaving the block without a word is what an exception in the gateway does.
        await stream.head()
    async with asyncio.timeout(1.0):
        await performance.closed.wait()
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=11,
        logged="receiver_fault",
        logged_provider_units=11,
    )


async def test_a_receiver_that_falls_silent_is_taken_for_dead_and_written_off(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """What a gateway that was killed looks like from here: neither credit nor cancel."""
    asked = request(account, "The gateway dies while this is spoken.")
    performance = provider.announce(asked.input, spoken(11), asyncio.Event().wait)
    inbox = house.bus.client.new_inbox()
    await house.publish(asked, inbox)
    await performance.closed.wait()
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=11,
        logged="receiver_silent",
        logged_provider_units=11,
    )


async def test_a_provider_that_swallows_the_cancellation_is_stopped_at_its_next_chunk(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """Libraries do that in a race with a result. The speech must not go on for nobody, its hold alive for ever."""
    swallowed = asyncio.Event()

    async def swallow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()

    asked = request(account, "Not even a cancellation stops this.")
    performance = provider.announce(asked.input, spoken(3), swallow, spoken(8), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await stream.cancel(CancelReason.CLIENT_GONE)
    await swallowed.wait()
    async with asyncio.timeout(1.0):
        await performance.closed.wait()
    books = await house.books(asked)
    assert (books.charged, books.logged) == (8, "client_gone")
