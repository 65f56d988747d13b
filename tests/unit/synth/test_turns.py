"""Tenants take turns with a provider, and nobody waits for what will not come."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from odea_runtime.bus import UnavailableError
from odea_synth.pace import Grant
from odea_synth.turns import BusyError, Turns
from support.waiting import until


class Valve:
    """A pace that gives turns when the test says so."""

    def __init__(self, burst: int = 0, interval_s: float = 0.001) -> None:
        self.burst = burst
        self.interval_s = interval_s
        self.open = 0
        self.broken = False

    async def take(self, wanted: int) -> Grant:
        if self.broken:
            raise UnavailableError("away")
        given = min(wanted, self.open)
        self.open -= given
        return Grant(turns=given, next_s=0.001)


@asynccontextmanager
async def turns_of(
    valve: Valve | None = None, *, streams_max: int = 1000, waiting_max: int = 1000, wait_s: float = 30.0
) -> AsyncGenerator[Turns]:
    turns = Turns("scripted", streams_max=streams_max, waiting_max=waiting_max, wait_s=wait_s, pace=valve)
    try:
        yield turns
    finally:
        await turns.close()


class Crowd:
    """Speeches that come for a turn and have it until the test ends."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, tenant_id: str, count: int = 1) -> None:
        """So many, who stand in line when this returns."""
        before = len(self.served) + self._turns.waiting
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._speak(tenant_id)))
        await until(lambda: len(self.served) + self._turns.waiting == before + count)

    async def _speak(self, tenant_id: str) -> None:
        async with self._turns.turn(tenant_id, 30.0):
            self.served.append(tenant_id)
            await asyncio.Event().wait()

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def crowd_before(turns: Turns) -> AsyncGenerator[Crowd]:
    crowd = Crowd(turns)
    try:
        yield crowd
    finally:
        await crowd.leave()


async def test_who_comes_when_there_is_room_goes_on_at_once() -> None:
    async with turns_of(streams_max=2) as turns, turns.turn("a", 0.001), turns.turn("a", 0.001):
        assert turns.waiting == 0


async def test_a_busy_tenant_does_not_starve_the_quiet_ones() -> None:
    """A hundred wait before five others come: each of the five is in the next round."""
    valve = Valve()
    async with turns_of(valve) as turns, crowd_before(turns) as crowd:
        await crowd.come("busy", 100)
        for quiet in "abcde":
            await crowd.come(quiet)
        valve.open = 6
        await until(lambda: len(crowd.served) == 6)
        assert sorted(crowd.served) == ["a", "b", "busy", "c", "d", "e"]
        valve.open = 99
        await until(lambda: len(crowd.served) == 105)
        assert crowd.served[6:] == ["busy"] * 99


async def test_a_round_gives_each_tenant_one_turn_in_the_order_of_coming() -> None:
    valve = Valve()
    async with turns_of(valve) as turns, crowd_before(turns) as crowd:
        for tenant_id, count in (("a", 3), ("b", 1), ("c", 2)):
            await crowd.come(tenant_id, count)
        valve.open = 6
        await until(lambda: len(crowd.served) == 6)
        assert crowd.served == ["a", "b", "c", "a", "c", "a"]


async def test_a_turn_ends_with_its_stream() -> None:
    async with turns_of(streams_max=1) as turns:
        async with AsyncExitStack() as first:
            await first.enter_async_context(turns.turn("a", 1))
            second = asyncio.create_task(first_of(turns, "b"))
            await until(lambda: turns.waiting == 1)
            assert not second.done()
        await second


async def test_one_more_than_may_wait_is_refused_with_a_time() -> None:
    valve = Valve(interval_s=1.5)
    async with turns_of(valve, waiting_max=4) as turns, crowd_before(turns) as crowd:
        await crowd.come("a", 4)
        with pytest.raises(BusyError) as refused:
            await first_of(turns, "b")
        # Four before it, and then its own.
        assert refused.value.retry_after_s == pytest.approx(7.5)


async def test_who_would_wait_too_long_is_told_so_at_once() -> None:
    """A quiet tenant that comes to the same line has less before it, and is let in."""
    valve = Valve(interval_s=1.0)
    async with turns_of(valve, wait_s=5.0) as turns, crowd_before(turns) as crowd:
        await crowd.come("busy", 5)
        with pytest.raises(BusyError) as refused:
            await first_of(turns, "busy")
        assert refused.value.retry_after_s == pytest.approx(6.0)
        await crowd.come("quiet")


async def test_waiting_ends_when_its_time_is_over() -> None:
    async with turns_of(Valve(burst=10)) as turns:
        with pytest.raises(BusyError):
            await first_of(turns, "a", within_s=0.05)
        assert turns.waiting == 0


async def test_who_leaves_makes_room_and_takes_no_turn() -> None:
    valve = Valve()
    async with turns_of(valve) as turns, crowd_before(turns) as crowd:
        await crowd.come("a")
        await crowd.come("b")
        crowd.tasks[0].cancel()
        await until(lambda: turns.waiting == 1)
        valve.open = 1
        await until(lambda: crowd.served == ["b"])


async def test_a_turn_that_comes_as_its_owner_leaves_goes_to_the_next() -> None:
    """It was taken from the pace already; the minute would be a turn short."""
    valve = Valve()
    async with turns_of(valve) as turns, crowd_before(turns) as crowd:
        await crowd.come("a")
        await crowd.come("b")
        # Given and left in one turn of the loop.
        turns._give_one()  # pyright: ignore[reportPrivateUsage]
        crowd.tasks[0].cancel()
        await until(lambda: crowd.served == ["b"])
        assert turns.waiting == 0


async def test_a_pause_holds_everybody_back_and_is_part_of_the_estimate() -> None:
    async with turns_of(wait_s=5.0) as turns:
        turns.pause(60)
        with pytest.raises(BusyError) as refused:
            await first_of(turns, "a")
        assert 55 < refused.value.retry_after_s <= 60


async def test_when_the_pace_cannot_be_told_all_who_wait_are_refused() -> None:
    """P9: nobody hangs, and it heals."""
    valve = Valve(burst=10)
    async with turns_of(valve) as turns, crowd_before(turns) as crowd:
        await crowd.come("a", 3)
        valve.broken = True
        done, _ = await asyncio.wait(crowd.tasks, timeout=5)
        assert [type(task.exception()) for task in done] == [BusyError] * 3
        valve.broken, valve.open = False, 1
        await crowd.come("b")
        await until(lambda: crowd.served == ["b"])


async def test_one_who_has_just_left_keeps_no_refusal_from_the_others() -> None:
    """P9: else they would sit out their whole wait."""
    valve = Valve()
    async with turns_of(valve) as turns, crowd_before(turns) as crowd:
        await crowd.come("a", 3)
        # Left, but not out of the line yet.
        crowd.tasks[0].cancel()
        turns._lines["a"][0].cancel()  # pyright: ignore[reportPrivateUsage]
        turns._refuse_all(UnavailableError("away"))  # pyright: ignore[reportPrivateUsage]
        await asyncio.wait(crowd.tasks, timeout=5)
        assert [type(task.exception()) for task in crowd.tasks[1:]] == [BusyError] * 2


async def first_of(turns: Turns, tenant_id: str, within_s: float = 30.0) -> None:
    async with turns.turn(tenant_id, within_s):
        return
