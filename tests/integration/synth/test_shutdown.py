"""The service ends: what can finish does, what can't is cut visibly and written off, and no hold stays."""

import asyncio
import time

import pytest

from integration.synth.caller import listen, request
from integration.synth.harness import Books, House
from odea_contracts.errors import ErrorCode
from odea_runtime.bus import NoRespondersError
from odea_runtime.streams import RefusedError
from support.scripted import ScriptedProvider, spoken
from support.waiting import until


@pytest.fixture(scope="module")
def house_settings() -> dict[str, str]:
    return {"drain_s": "1.5"}


async def test_a_speech_in_hand_is_finished_while_new_ones_find_nobody(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Said on the way out.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(5), gate.wait, spoken(20))
    async with house.speak(asked) as stream:
        hearing = asyncio.create_task(listen(stream))
        await until(lambda: house.is_held(asked))
        stopping = asyncio.create_task(house.synth.stop())
        await until(lambda: _finds_nobody(house, account))
        gate.set()
        assert (await hearing).tail.units == 20
    await stopping
    assert (await house.books(asked)).logged == "completed"
    await house.synth.start()


async def test_a_speech_that_does_not_end_in_time_is_cut_visibly_and_written_off(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Never to be finished.")
    performance = provider.announce(asked.input, spoken(5), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await stream.head()
        stopping = asyncio.create_task(house.synth.stop())
        with pytest.raises(RefusedError) as refused:
            _ = [frame async for frame in stream]
    assert refused.value.failure.code is ErrorCode.SYNTH_UNAVAILABLE
    await stopping
    assert performance.closed.is_set()
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=5,
        logged="shutdown",
        logged_provider_units=5,
    )
    await house.synth.start()


async def test_a_service_whose_quota_is_away_ends_all_the_same(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """The end of the hold cannot be said any more; its lease is what ends it (P3)."""
    asked = request(account, "Nobody to settle it with.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(25), gate.wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await house.quota.stop()
        began = time.monotonic()
        stopping = asyncio.create_task(house.synth.stop())
        gate.set()
        with pytest.raises(RefusedError):
            _ = [frame async for frame in stream]
        await stopping
    assert time.monotonic() - began < 8
    await house.quota.start()
    await house.expire(asked)
    balance = await house.balance(account)
    assert (balance.used, balance.held) == (0, 0)
    await house.synth.start()


async def _finds_nobody(house: House, account: str) -> bool:
    try:
        await house.hear(request(account, "Too late for this one.", model="none"))
    except NoRespondersError:
        return True
    except RefusedError:
        return False
    raise AssertionError("it was spoken")
