"""Work is bounded (P10), and a shutdown waits for it."""

import asyncio

from odea_runtime.tasks import Tasks


async def wait_for(event: asyncio.Event, done: list[str], name: str) -> None:
    await event.wait()
    done.append(name)


async def test_work_beyond_the_bound_is_refused_unrun_and_room_comes_back() -> None:
    """P10."""
    tasks, go, done = Tasks(2), asyncio.Event(), list[str]()
    assert [tasks.start(wait_for(go, done, name)) for name in "abc"] == [True, True, False]
    assert tasks.full
    assert len(tasks) == 2
    go.set()
    await tasks.drain(5)
    assert sorted(done) == ["a", "b"]
    assert not tasks.full
    assert tasks.start(wait_for(go, done, "d"))
    await tasks.drain(5)
    assert sorted(done) == ["a", "b", "d"]


async def test_draining_waits_for_what_runs() -> None:
    tasks, go, done = Tasks(10), asyncio.Event(), list[str]()
    for name in "abc":
        tasks.start(wait_for(go, done, name))
    draining = asyncio.create_task(tasks.drain(5))
    await asyncio.sleep(0)
    assert not draining.done()
    go.set()
    await draining
    assert sorted(done) == ["a", "b", "c"]


async def test_what_does_not_end_in_time_is_cancelled() -> None:
    tasks, cancelled = Tasks(10), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    tasks.start(work())
    await asyncio.sleep(0)
    await tasks.drain(0.01)
    assert cancelled.is_set()
    assert len(tasks) == 0


async def test_work_that_ignores_its_cancellation_does_not_hold_the_shutdown_up() -> None:
    """P10."""
    tasks, go = Tasks(10), asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    tasks.start(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.drain(0.01)
    assert len(tasks) == 1
    go.set()
    await tasks.drain(5)
    assert len(tasks) == 0


async def test_draining_nothing_returns() -> None:
    async with asyncio.timeout(1):
        await Tasks(1).drain(60)


async def test_work_that_fails_leaves_its_place() -> None:
    tasks = Tasks(1)

    async def fail() -> None:
        raise ValueError("ours")

    loop, faults = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _loop, context: faults.append(context.get("exception")))
    try:
        assert tasks.start(fail())
        await tasks.drain(5)
    finally:
        loop.set_exception_handler(None)
    assert not tasks.full
