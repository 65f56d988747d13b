"""P3 from the speaker's side: a hold lives as long as its speech, no longer, and never without anyone to end it."""

import asyncio

import pytest

from integration.synth.caller import WITHIN_S, request
from integration.synth.harness import Books, House, break_settlement
from odea_contracts import quota
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import CancelReason
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

LEASE_S = 3


@pytest.fixture(scope="module")
def house_settings() -> dict[str, str]:
    return {
        "synth_lease_s": str(LEASE_S),
        "call_timeout_s": "1",
        "synth_settle_wait_s": "0.5",
        "synth_write_off_s": "0.5",
    }


async def test_a_long_speech_outlives_its_first_lease_and_is_not_extended_after_its_end(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked, after = request(account, "A long one."), request(await house.open_account(), "One more, as a clock.")
    gate, next_gate = asyncio.Event(), asyncio.Event()
    provider.announce(asked.input, spoken(5), gate.wait, spoken(11))
    provider.announce(after.input, spoken(20), next_gate.wait)
    async with house.overhear(quota.EXTEND) as extended, house.speak(after) as clock:
        async with house.speak(asked) as stream:
            await stream.head()
            await clock.head()
            [hold] = await house.holds(asked)
            first_end = hold["reserved_at"].timestamp() + LEASE_S

            async def first_lease_is_over() -> bool:
                return await house.ledger.fetchval("SELECT extract(epoch FROM clock_timestamp())") > first_end

            await until(first_lease_is_over)
            assert await house.holds(asked)
            gate.set()
            assert b"".join([frame async for frame in stream])
        assert (await house.books(asked)).charged == 11

        ours = str(hold["hold_id"])
        seen = sum(message.hold_id == ours for message in extended)
        others = len(extended) - seen
        assert seen >= 2
        await until(lambda: sum(message.hold_id != ours for message in extended) >= others + 2)
        assert sum(message.hold_id == ours for message in extended) == seen
        next_gate.set()
        assert b"".join([frame async for frame in clock])


async def test_a_caller_who_leaves_during_the_reservation_leaves_no_hold_behind(house: House, account: str) -> None:
    """The hold is written after the caller has gone. It is given back then, and not when its lease is over."""
    asked = request(account, "Gone before it was held.")
    async with house.locked(account):
        async with house.speak(asked) as stream:
            await until(house.quota_waits)
            await stream.cancel(CancelReason.CLIENT_GONE)
        await until(lambda: not house.is_sending())
    await until(lambda: house.is_resolved(asked), within_s=WITHIN_S)
    [end] = await house.resolutions(asked)
    assert end["kind"] == "released"
    assert (end["resolved_at"] - end["reserved_at"]).total_seconds() < LEASE_S
    assert (await house.balance(account)).held == 0
    # Nobody began to speak, which would have failed, since nothing was announced, and been logged.
    assert not await house.is_logged(asked)


async def test_a_reservation_that_is_answered_too_late_is_given_back(house: House, account: str) -> None:
    """The caller hears 503, and the hold that was written after all does not block the next attempt."""
    asked = request(account, "Too late to matter.")
    async with house.overhear(quota.RELEASE) as released:
        async with house.locked(account):
            failure = await house.refusal(asked)
            assert failure.code is ErrorCode.QUOTA_UNAVAILABLE
            await until(lambda: len(released) == 1)
        await until(lambda: house.is_resolved(asked), within_s=WITHIN_S)
    [end] = await house.resolutions(asked)
    assert end["kind"] == "released"
    assert (end["resolved_at"] - end["reserved_at"]).total_seconds() < LEASE_S


async def test_a_hold_that_expired_is_charged_late_while_there_is_room(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Held for too short a time.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(26), gate.wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await house.expire(asked)
        gate.set()
        assert b"".join([frame async for frame in stream])
    assert stream.tail
    assert stream.tail.units == 26
    await until(lambda: house.is_logged(asked))
    assert [(end["kind"], end["units_settled"], end["late"]) for end in await house.resolutions(asked)] == [
        ("expired", 0, False),
        ("settled", 26, True),
    ]
    balance = await house.balance(account)
    assert (balance.used, balance.held) == (26, 0)


async def test_a_hold_that_expired_is_not_charged_where_there_is_no_room_any_more(
    house: House, provider: ScriptedProvider
) -> None:
    """P1 before P2: the audio is whole, and it was on the house."""
    account = await house.open_account(units=30)
    asked, greedy = request(account, "Held for too short a time."), request(account, "Takes what became free.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(26), gate.wait)
    provider.announce(greedy.input, spoken(23))
    async with house.speak(asked) as stream:
        await stream.head()
        await house.expire(asked)
        assert (await house.hear(greedy)).tail.units == 23
        gate.set()
        assert b"".join([frame async for frame in stream])
    assert stream.tail
    assert stream.tail.units == 0
    books = await house.books(asked, used=23)
    assert books == Books(kind="expired", logged="completed", logged_provider_units=26)


async def test_a_hold_that_nobody_knows_any_more_ends_the_speech_whole_and_uncharged(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """As after quota's database was put back to an older state."""
    asked = request(account, "Forgotten by quota.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(19), gate.wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await house.ledger.execute("DELETE FROM quota.holds WHERE request_id = $1", asked.request_id)
        gate.set()
        assert b"".join([frame async for frame in stream])
    assert stream.tail
    assert stream.tail.units == 0
    await until(lambda: house.is_logged(asked))
    assert (await house.balance(account)).used == 0


async def test_quota_away_for_good_leaves_the_hold_to_its_lease(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """Nobody is left to end the hold, and nobody extends it when quota is back."""
    asked = request(account, "Quota is away for good.")
    await break_settlement(house, provider, asked)
    await until(lambda: house.is_logged(asked))
    await house.quota.start()
    async with house.overhear(quota.EXTEND) as extended:
        await until(lambda: house.is_resolved(asked), within_s=WITHIN_S)
        assert not extended
    assert await house.books(asked) == Books(kind="expired", logged="unsettled", logged_provider_units=23)
