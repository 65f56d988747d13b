"""Whatever quota says no to, or cannot say: the right code, the right advice, and nothing taken (P1, P9)."""

import asyncio
import time

from integration.synth.caller import request
from integration.synth.harness import House
from odea_contracts.errors import ErrorCode
from odea_contracts.quota import Outcome
from odea_runtime.ids import new_id
from support.scripted import ScriptedProvider, spoken


async def test_units_that_do_not_suffice_refuse_and_waiting_is_useless(
    house: House, provider: ScriptedProvider
) -> None:
    account = await house.open_account(units=20)
    asked = request(account, "Nineteen characters")
    provider.announce(asked.input, spoken(19))
    await house.hear(asked)
    failure = await house.refusal(request(account, "Two"))
    assert (failure.code, failure.retry_after_ms) == (ErrorCode.INSUFFICIENT_QUOTA, None)
    balance = await house.balance(account)
    assert (balance.used, balance.held, balance.in_flight) == (19, 0, 0)
    last = request(account, "1")
    provider.announce(last.input, spoken(1))
    assert (await house.hear(last)).tail.units == 1


async def test_too_many_in_a_minute_are_told_when_to_come_back(house: House, provider: ScriptedProvider) -> None:
    account = await house.open_account(requests_per_minute=1)
    asked = request(account, "The one of this minute.")
    provider.announce(asked.input, spoken(23))
    await house.hear(asked)
    failure = await house.refusal(request(account, "One more."))
    assert failure.code is ErrorCode.RATE_LIMIT_EXCEEDED
    assert failure.retry_after_ms
    assert 30_000 < failure.retry_after_ms <= 60_000
    assert (await house.balance(account)).used == 23


async def test_too_many_at_once_are_refused_until_one_ends(house: House, provider: ScriptedProvider) -> None:
    account = await house.open_account(in_flight_max=1)
    first, second = request(account, "In hand."), request(account, "One too many.")
    gate = asyncio.Event()
    provider.announce(first.input, spoken(8), gate.wait)
    async with house.speak(first) as stream:
        await stream.head()
        failure = await house.refusal(second)
        assert failure.code is ErrorCode.CONCURRENCY_LIMIT_EXCEEDED
        assert failure.retry_after_ms
        gate.set()
        assert b"".join([frame async for frame in stream])
    provider.announce(second.input, spoken(13))
    assert (await house.hear(second)).tail.units == 13


async def test_a_suspended_account_is_refused(house: House, account: str) -> None:
    await house.ledger.execute("UPDATE quota.balances SET suspended = true WHERE account_id = $1", account)
    failure = await house.refusal(request(account, "Not now."))
    assert (failure.code, failure.retry_after_ms) == (ErrorCode.ACCOUNT_SUSPENDED, None)
    assert await house.untouched(account)


async def test_an_account_that_is_not_there_yet_is_trouble_and_not_the_callers_fault(house: House) -> None:
    failure = await house.refusal(request(new_id("ten"), "Too early."))
    assert failure.code is ErrorCode.QUOTA_UNAVAILABLE
    assert failure.retryable


async def test_a_key_with_a_budget_of_its_own_takes_from_both_accounts_or_from_none(
    house: House, provider: ScriptedProvider
) -> None:
    tenant, key = await house.open_account(units=100), await house.open_account(units=10)
    asked = request(tenant, "Nine char", accounts=(tenant, key))
    provider.announce(asked.input, spoken(9))
    await house.hear(asked)
    failure = await house.refusal(request(tenant, "Two", accounts=(tenant, key)))
    assert failure.code is ErrorCode.INSUFFICIENT_QUOTA
    assert [(await house.balance(name)).used for name in (tenant, key)] == [9, 9]
    assert [(await house.balance(name)).held for name in (tenant, key)] == [0, 0]


async def test_without_quota_nothing_is_spoken_and_it_heals_by_itself(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """P9: 503 within two seconds, and the provider, to whom nothing was announced, is not asked."""
    asked = request(account, "Unmetered speech is not for sale.")
    await house.quota.stop()
    try:
        began = time.monotonic()
        failure = await house.refusal(asked)
        assert failure.code is ErrorCode.QUOTA_UNAVAILABLE
        assert time.monotonic() - began < 2.0
    finally:
        await house.quota.start()
    # A request of its own: the log has the refused one, too.
    asked = request(account, asked.input)
    provider.announce(asked.input, spoken(33))
    assert (await house.hear(asked)).tail.units == 33
    assert (await house.books(asked)).outcome == Outcome.COMPLETED
