"""PostgreSQL and NATS go away in mid-stream: whole and charged once, or visibly broken and free (P2, P4)."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from integration.synth.caller import WITHIN_S, listen, request, synth_settings
from integration.synth.harness import Books, House, open_house, with_provider
from odea_contracts import quota
from odea_runtime.streams import OutgoingStream, StreamBrokenError
from support.databases import Databases
from support.scripted import ScriptedProvider, spoken
from support.servers import NatsServer, PostgresServer
from support.waiting import until


async def test_a_database_that_is_away_at_the_end_is_waited_for(
    nats_url: str, breakable_postgres: PostgresServer, provider: ScriptedProvider
) -> None:
    """Both of them: the charge and the row in the log are written when it is back, each once."""
    databases = Databases(breakable_postgres.dsn)
    settings = synth_settings(nats_url, await databases.create("synth"))
    async with open_house(settings, await databases.create("quota"), with_provider(provider, settings)) as house:
        asked = request(await house.open_account(), "Said while the database was away.")
        gate = asyncio.Event()
        provider.announce(asked.input, spoken(33), gate.wait)
        async with house.speak(asked) as stream, house.overhear(quota.SETTLE) as attempts:
            hearing = asyncio.create_task(listen(stream))
            await until(lambda: house.is_held(asked))
            await house.ledger.expire_connections()
            breakable_postgres.stop()
            gate.set()
            await until(lambda: len(attempts) >= 2)
            assert not hearing.done()
            await asyncio.to_thread(breakable_postgres.restart)
            assert (await hearing).tail.units == 33
        assert await house.books(asked) == Books(
            kind="settled",
            outcome="completed",
            charged=33,
            provider_units=33,
            logged="completed",
            logged_provider_units=33,
        )


async def test_speech_does_not_need_the_log(nats_url: str, databases: Databases, provider: ScriptedProvider) -> None:
    """The service starts, speaks and ends while its own database is away."""
    settings = synth_settings(nats_url, "postgresql://odea_synth:tests-only@127.0.0.1:1/odea")
    async with open_house(settings, await databases.create("quota"), with_provider(provider, settings)) as house:
        asked = request(await house.open_account(), "Off the record.")
        provider.announce(asked.input, spoken(15))
        assert (await house.hear(asked)).tail.units == 15


@pytest.fixture
async def house(breakable_nats: NatsServer, databases: Databases, provider: ScriptedProvider) -> AsyncGenerator[House]:
    settings = synth_settings(breakable_nats.url, await databases.create("synth"))
    async with open_house(settings, await databases.create("quota"), with_provider(provider, settings)) as opened:
        yield opened


async def test_a_bus_that_dies_in_mid_stream_breaks_it_and_costs_nothing(
    house: House, breakable_nats: NatsServer, provider: ScriptedProvider
) -> None:
    account = await house.open_account()
    asked = request(account, "Cut off.")
    performance = provider.announce(asked.input, spoken(3), asyncio.Event().wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await asyncio.to_thread(breakable_nats.kill)
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(StreamBrokenError):
                _ = [frame async for frame in stream]
            await performance.closed.wait()
    await asyncio.to_thread(breakable_nats.restart)
    await until(lambda: house.bus.connected, within_s=WITHIN_S)
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=3,
        logged="receiver_fault",
        logged_provider_units=3,
    )
    again = request(account, "Whole.")
    provider.announce(again.input, spoken(6))
    assert (await house.hear(again)).tail.units == 6


async def test_a_bus_that_dies_during_the_settlement_costs_nothing(
    house: House, breakable_nats: NatsServer, provider: ScriptedProvider
) -> None:
    """P2: the settlement is under way and its answer never comes. It counts, unheard of, and is taken back."""
    account = await house.open_account()
    asked = request(account, "Cut off at the very end.")
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(24), gate.wait)
    async with house.speak(asked) as stream:
        await stream.head()
        async with house.locked(account):
            gate.set()
            await until(house.quota_waits)
            await asyncio.to_thread(breakable_nats.kill)
            await until(lambda: not house.is_sending())
    await asyncio.to_thread(breakable_nats.restart)
    await until(lambda: house.bus.connected, within_s=WITHIN_S)
    books = await house.books(asked)
    assert (books.outcome, books.charged, books.taken_back, books.logged) == ("completed", 24, 24, "receiver_fault")
    assert await house.differences() == []


async def test_a_bus_that_dies_between_settlement_and_tail_costs_nothing(
    house: House, breakable_nats: NatsServer, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P4: the charge is durable, its answer has come, and the tail never leaves."""
    account = await house.open_account()
    asked = request(account, "Cut off after the very end.")
    provider.announce(asked.input, spoken(27))
    send_tail = OutgoingStream.tail

    async def die_before(stream: OutgoingStream, units: int) -> None:
        assert (await house.ledger.fetchrow("SELECT used FROM quota.balances WHERE account_id = $1", account))[0] == 27
        await asyncio.to_thread(breakable_nats.kill)
        await send_tail(stream, units)

    monkeypatch.setattr(OutgoingStream, "tail", die_before)
    with pytest.raises(StreamBrokenError):
        await house.hear(asked)
    await asyncio.to_thread(breakable_nats.restart)
    await until(lambda: house.bus.connected, within_s=WITHIN_S)
    books = await house.books(asked)
    assert (books.outcome, books.charged, books.taken_back, books.logged) == ("completed", 27, 27, "receiver_fault")
    assert await house.differences() == []
