"""Settle before tail, whatever quota does meanwhile: charged once, or a stream that is visibly broken (P2, P4)."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from nats.aio.msg import Msg

from integration.synth.caller import WITHIN_S, listen, request
from integration.synth.harness import Books, House, break_settlement
from odea_contracts import quota
from odea_contracts.synth import HEADER_FRAME, CancelReason, Frame
from odea_contracts.writeoffs import WRITE_OFF
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


async def test_a_client_that_left_between_settlement_and_tail_pays(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """The charge was on its way when it left, and it would have been the same."""
    asked = request(account, "Everything was said, but not that.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(34), gate.wait)
    async with house.overhear(quota.SETTLE) as attempts, AsyncExitStack() as lock:
        async with house.speak(asked) as stream:
            await stream.head()
            await lock.enter_async_context(house.locked(account))
            gate.set()
            await until(lambda: len(attempts) == 1)
            await stream.cancel(CancelReason.CLIENT_GONE)
        await until(lambda: len(attempts) >= 2)
    assert [attempt.units for attempt in attempts[:2]] == [34, 34]
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=34,
        provider_units=34,
        logged="client_gone",
        logged_provider_units=34,
    )


async def test_a_receiver_that_failed_between_settlement_and_tail_does_not(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """P2: the charge was on its way when the stream broke. It comes first, and is taken back."""
    asked = request(account, "Everything was said, but nobody heard it.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(34), gate.wait)
    async with (
        house.overhear(quota.SETTLE) as attempts,
        house.overhear(WRITE_OFF) as write_offs,
        house.speak(asked) as stream,
    ):
        await stream.head()
        async with house.locked(account):
            gate.set()
            await until(lambda: len(attempts) == 1)
            await stream.cancel(CancelReason.RECEIVER_FAULT)
            await until(lambda: len(write_offs) >= 1)
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=34,
        taken_back=34,
        provider_units=34,
        logged="receiver_fault",
        logged_provider_units=34,
    )
    assert (await house.balance(account)).used == 0


@pytest.mark.parametrize(
    ("reason", "taken_back"),
    [(CancelReason.CLIENT_GONE, 0), (CancelReason.CLIENT_STALLED, 0), (CancelReason.RECEIVER_FAULT, 34)],
)
async def test_who_leaves_after_the_tail_says_why_and_pays_accordingly(
    house: House, provider: ScriptedProvider, account: str, reason: CancelReason, taken_back: int
) -> None:
    asked = request(account, "All of it came, and went no further.")
    provider.announce(asked.input, spoken(34))
    async with house.speak(asked) as stream:
        await listen(stream)
        await stream.cancel(reason)
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=34,
        taken_back=taken_back,
        provider_units=34,
        logged=reason.value,
        logged_provider_units=34,
    )


async def test_a_receiver_that_dies_with_the_tail_in_its_hands_pays_nothing(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """P2: it never says what became of the end. In doubt it is decided for the customer."""
    asked = request(account, "Heard by somebody who died of it.")
    provider.announce(asked.input, spoken(33))
    tail = asyncio.Event()

    async def take(message: Msg) -> None:
        if (message.headers or {}).get(HEADER_FRAME) == Frame.TAIL:
            tail.set()

    inbox = house.bus.client.new_inbox()
    ear = await house.bus.client.subscribe(inbox, cb=take)
    await house.publish(asked, inbox)
    await asyncio.wait_for(tail.wait(), WITHIN_S)
    assert (await house.balance(account)).used == 33
    books = await house.books(asked)
    await ear.unsubscribe()
    assert (books.charged, books.taken_back, books.logged) == (33, 33, "receiver_silent")
    assert (await house.balance(account)).used == 0


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
