"""A pace is shared by all replicas: however many ask, a minute never has more than it may."""

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest

from integration.synth.caller import synth_settings
from odea_runtime.postgres import Database, StorageUnavailableError
from odea_synth.pace import SharedPace
from support.databases import Databases

RPM, BURST = 60, 10


@pytest.fixture(scope="module")
async def databases_of_two(nats_url: str, databases: Databases) -> AsyncGenerator[tuple[Database, Database]]:
    """Two replicas on one database."""
    settings = synth_settings(nats_url, await databases.create("synth"))
    two = (Database(settings, "odea_synth", "synth"), Database(settings, "odea_synth", "synth"))
    for database in two:
        await database.start()
    yield two
    for database in two:
        await database.stop()


def replicas(two: tuple[Database, Database], provider: str) -> list[SharedPace]:
    return [SharedPace(database, provider, requests_per_minute=RPM, burst=BURST) for database in two]


async def pass_time(database: Database, provider: str, seconds: float) -> None:
    """As if so much time had gone by."""
    async with database.connection() as connection:
        query = "UPDATE synth.paces SET idle_at_us = idle_at_us - $2 WHERE provider = $1"
        await connection.execute(query, provider, int(seconds * 1_000_000))


async def take_all_at_once(paces: list[SharedPace], asks: int) -> int:
    grants = await asyncio.gather(*(paces[number % len(paces)].take(2) for number in range(asks)))
    return sum(grant.turns for grant in grants)


async def test_two_replicas_that_ask_at_once_share_one_burst(databases_of_two: tuple[Database, Database]) -> None:
    paces = replicas(databases_of_two, "burst")
    await paces[0].take(1)
    # Under a second passes meanwhile, and a turn comes every 1.2 seconds.
    assert await take_all_at_once(paces, 20) in (BURST, BURST - 1)


async def test_no_minute_has_more_than_it_may(databases_of_two: tuple[Database, Database]) -> None:
    """Asked without a pause for two minutes, in steps: the burst, and one each interval after it."""
    paces = replicas(databases_of_two, "minute")
    await paces[0].take(1)
    given = [await take_all_at_once(paces, 12)]
    for _ in range(24):
        await pass_time(databases_of_two[0], "minute", 5.0)
        given.append(await take_all_at_once(paces, 8))
    # Windows of sixty seconds, wherever they begin; a step of time is five.
    windows = [sum(given[start : start + 12]) for start in range(len(given) - 11)]
    assert max(windows) <= RPM
    assert sum(given) >= BURST + 24 * 4, "the pace is used"


async def test_the_wait_that_is_told_is_the_wait_that_is_needed(databases_of_two: tuple[Database, Database]) -> None:
    paces = replicas(databases_of_two, "wait")
    await paces[0].take(1)
    assert (await paces[0].take(BURST)).turns in (BURST, BURST - 1)
    dry = await paces[1].take(1)
    assert dry.turns == 0
    assert 0 < dry.next_s <= paces[0].interval_s
    await pass_time(databases_of_two[0], "wait", dry.next_s)
    assert (await paces[0].take(1)).turns == 1


async def test_a_clock_that_was_set_back_stops_nobody_for_longer_than_a_burst(
    databases_of_two: tuple[Database, Database],
) -> None:
    paces = replicas(databases_of_two, "clock")
    await paces[0].take(1)
    await paces[0].take(1)
    await pass_time(databases_of_two[0], "clock", -86_400)
    assert (await paces[0].take(1)).next_s <= BURST * paces[0].interval_s


async def test_without_a_database_nothing_is_given(nats_url: str) -> None:
    """P9: named at once. A guess could be one too many."""
    settings = synth_settings(nats_url, "postgresql://nobody@127.0.0.1:1/none")
    database = Database(settings, "odea_synth", "synth")
    try:
        await database.start()
        with pytest.raises((StorageUnavailableError, asyncpg.PostgresError)):
            await SharedPace(database, "x", requests_per_minute=RPM, burst=BURST).take(1)
    finally:
        await database.stop()
