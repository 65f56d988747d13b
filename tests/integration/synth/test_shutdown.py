"""The service ends: what can finish does, what can't is cut visibly and written off, and no hold stays."""

import asyncio
import time

import pytest

from integration.synth.caller import listen, request
from integration.synth.harness import Books, House
from odea_contracts.errors import ErrorCode
from odea_runtime.bus import NoRespondersError
from odea_runtime.postgres import Database
from odea_runtime.streams import Receiver, RefusedError
from odea_runtime.tasks import Tasks
from odea_synth.announcer import Announcer
from odea_synth.metering import Meter
from odea_synth.providers.base import ErrorClass, ProviderError
from odea_synth.request_log import RequestLog
from odea_synth.routing.building import Lines
from odea_synth.routing.switchboard import Switchboard
from odea_synth.speaking import Speaker
from odea_synth.store import RequestStore
from support.routing import routing_of
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


async def test_an_end_that_has_begun_is_seen_through_however_often_it_is_cancelled(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """The last moments of the process are spent on the books, not on leaving everything to leases."""
    settings = house.settings
    database = Database(settings, "odea_synth", "synth")
    await database.start()
    log = RequestLog(RequestStore(database), queue_max=10, pause_s=1)
    announcer = Announcer(house.bus, waiting_max=10)
    lines = Lines(database, announcer.breaker_changed, settings, lambda _: provider)
    switchboard = Switchboard(lines.open, retire_s=1, voices_every_s=60)
    await switchboard.apply(routing_of("scripted"))
    meter = Meter(house.bus, Tasks(10), lease_s=15, settle_wait_s=10, write_off_s=10)
    speaker = Speaker(switchboard, meter, house.streams, settings, log=log, announcer=announcer)
    asked = request(account, "Failed, and then cancelled.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(4), gate.wait, ProviderError(ErrorClass.UPSTREAM, "No more."))
    speaking = asyncio.create_task(speaker.speak(asked, Receiver(inbox=house.bus.client.new_inbox())))
    await until(lambda: house.is_held(asked))
    async with house.locked(account):
        gate.set()
        await until(house.quota_waits)
        for _ in range(3):
            speaking.cancel()
            await asyncio.sleep(0)
        assert not speaking.done()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    await log.flush()
    books = await house.books(asked)
    assert (books.outcome, books.provider_units, books.logged) == ("written_off", 4, "provider_failed")
    speaker.close()
    await database.stop()


async def _finds_nobody(house: House, account: str) -> bool:
    try:
        await house.hear(request(account, "Too late for this one.", model="none"))
    except NoRespondersError:
        return True
    except RefusedError:
        return False
    raise AssertionError("it was spoken")
