"""A time limit ends its block, and nothing else."""

import asyncio

import pytest

from odea_runtime.patience import within

SOON_S = 0.01
NEVER_S = 3600.0


async def test_a_block_that_takes_too_long_is_interrupted() -> None:
    with pytest.raises(TimeoutError), within(SOON_S):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_in_time_leaves_no_timer_behind() -> None:
    with within(SOON_S):
        pass
    await asyncio.sleep(2 * SOON_S)


async def test_what_fails_inside_goes_on_as_what_it_is() -> None:
    with pytest.raises(KeyError), within(NEVER_S):
        raise KeyError


async def test_a_cancellation_from_outside_stays_one() -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        with within(NEVER_S):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_with_the_end_of_the_time_is_not_lost() -> None:
    """Whoever cancelled must not be answered with a `TimeoutError`, which the task may take for its own affair."""

    async def wait() -> None:
        try:
            with within(0):
                await asyncio.Event().wait()
        except TimeoutError:
            pytest.fail("the cancellation was swallowed")

    task = asyncio.create_task(wait())
    # The task has entered the block and its time is over, but it has not heard of that yet.
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("outer_s", "inner_s", "ended"), [(SOON_S, NEVER_S, "outer"), (NEVER_S, SOON_S, "inner")])
async def test_of_two_limits_the_one_ends_that_is_over(outer_s: float, inner_s: float, ended: str) -> None:
    found = ""
    try:
        with within(outer_s):
            try:
                with within(inner_s):
                    await asyncio.Event().wait()
            except TimeoutError:
                found = "inner"
    except TimeoutError:
        found = found or "outer"
    assert found == ended
