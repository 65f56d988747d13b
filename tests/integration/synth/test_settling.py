"""Settle before tail, whatever quota does meanwhile: charged once, or a stream that is visibly broken (P2, P4)."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from integration.synth.caller import listen, request
from integration.synth.harness import Books, House, break_settlement
from odea_contracts import quota
from odea_contracts.synth import CancelReason
from support.scripted import ScriptedProvider, spoken
from support.waiting import until


@pytest.fixture(scope="module")
def house_settings() -> dict[str, str]:
    return {"synth_lease_s": "9", "synth_settle_wait_s": "3", "call_timeout_s": "1"}


async def test_the_tail_waits_until_quota_is_back(house: House, provider: ScriptedProvider, account: str) -> None:
    asked = request(account, "Quota is away for a moment.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(27), gate.wait)
    async with house.speak(asked) as stream, house.overhear(quota.SETTLE) as attempts:
        hearing = asyncio.create_task(listen(stream))
        await until(lambda: house.is_held(asked))
        await house.quota.stop()
        try:
            gate.set()
            await until(lambda: len(attempts) >= 2)
            assert not hearing.done()
        finally:
            await house.quota.start()
        assert (await hearing).tail.units == 27
    assert {(attempt.hold_id, attempt.units) for attempt in attempts} == {(attempts[0].hold_id, 27)}
    assert (await house.books(asked)).charged == 27


async def test_a_settlement_whose_answer_came_too_late_charges_once(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """The first attempt times out and is written all the same; the second is answered for both."""
    asked = request(account, "Charged by an attempt that timed out.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(37), gate.wait)
    async with house.speak(asked) as stream, house.overhear(quota.SETTLE) as attempts:
        await stream.head()
        async with house.locked(account):
            gate.set()
            await until(lambda: len(attempts) >= 2)
        assert b"".join([frame async for frame in stream])
    assert stream.tail
    assert stream.tail.units == 37
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=37,
        provider_units=37,
        logged="completed",
        logged_provider_units=37,
    )


@pytest.mark.parametrize(
    ("reason", "second_attempt"), [(CancelReason.CLIENT_GONE, 34), (CancelReason.RECEIVER_FAULT, 0)]
)
async def test_whatever_comes_between_settlement_and_tail_both_books_agree(
    house: House, provider: ScriptedProvider, account: str, reason: CancelReason, second_attempt: int
) -> None:
    """The charge was on its way when the stream broke. It came first, so it counts, and the log says so."""
    asked = request(account, "Everything was said, but not that.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(34), gate.wait)
    async with house.overhear(quota.SETTLE) as attempts, AsyncExitStack() as lock:
        async with house.speak(asked) as stream:
            await stream.head()
            await lock.enter_async_context(house.locked(account))
            gate.set()
            await until(lambda: len(attempts) == 1)
            await stream.cancel(reason)
        await until(lambda: len(attempts) >= 2)
    assert [attempt.units for attempt in attempts[:2]] == [34, second_attempt]
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=34,
        provider_units=34,
        logged=reason.value,
        logged_provider_units=34,
    )


async def test_quota_away_for_longer_breaks_the_stream_and_the_hold_is_written_off_when_it_is_back(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """P4: all the audio is there, and still the caller sees a failure. P2: what broke is not charged."""
    asked = request(account, "Quota is away for too long.")
    await break_settlement(house, provider, asked)
    await house.quota.start()
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=27,
        logged="unsettled",
        logged_provider_units=27,
    )
    provider.announce(asked.input, spoken(27))
    again = request(account, asked.input)
    assert (await house.hear(again)).tail.units == 27
    assert (await house.balance(account)).used == 27
