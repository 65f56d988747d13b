"""A client that leaves is noticed at once, and nothing else is taken for that (P2)."""

import asyncio
import gc
import weakref

import pytest
from litestar.types import HTTPReceiveMessage

from odea_gateway.clientwatch import ClientGoneError, ClientWatch


class Line:
    """What a server says of a connection."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._told = False

    async def receive(self) -> HTTPReceiveMessage:
        if not self._told:
            self._told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def watched(watch: ClientWatch, *, within_s: float | None = None) -> None:
    """Work without an end."""
    async with watch, asyncio.timeout(within_s):
        await asyncio.Event().wait()


async def test_leaving_interrupts_the_work() -> None:
    line = Line()
    watch = ClientWatch(line.receive, after_s=0)
    asyncio.get_running_loop().call_later(0.01, line.gone.set)
    with pytest.raises(ClientGoneError):
        await watched(watch)
    assert watch.gone
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_left_before_the_watch_began_is_noticed_then() -> None:
    line = Line()
    line.gone.set()
    with pytest.raises(ClientGoneError):
        await watched(ClientWatch(line.receive, after_s=0.02))


async def test_short_work_is_not_watched() -> None:
    asked = False

    async def receive() -> HTTPReceiveMessage:
        nonlocal asked
        asked = True
        return {"type": "http.disconnect"}

    async with ClientWatch(receive, after_s=0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.04)
    assert not asked


async def test_work_that_ends_is_not_disturbed() -> None:
    line = Line()
    async with ClientWatch(line.receive, after_s=0):
        await asyncio.sleep(0)
    line.gone.set()
    await asyncio.sleep(0.01)


async def test_after_the_release_leaving_makes_no_difference() -> None:
    line = Line()
    async with ClientWatch(line.receive, after_s=0) as watch:
        await asyncio.sleep(0)
        watch.release()
        line.gone.set()
        await asyncio.sleep(0.01)
    assert not watch.gone


async def test_errors_of_the_work_pass() -> None:
    with pytest.raises(KeyError):
        async with ClientWatch(Line().receive, after_s=0):
            raise KeyError


async def test_a_cancelled_task_is_cancelled() -> None:
    async def work() -> None:
        async with ClientWatch(Line().receive, after_s=0):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_during_a_timeout_is_leaving() -> None:
    """Both interrupt the same task; neither may be taken for the other."""
    line = Line()
    line.gone.set()
    with pytest.raises(ClientGoneError):
        await watched(ClientWatch(line.receive, after_s=0), within_s=10)
    with pytest.raises(TimeoutError):
        await watched(ClientWatch(Line().receive, after_s=0), within_s=0.01)


@pytest.mark.parametrize("after_s", [60, 0], ids=["not begun", "begun"])
async def test_a_watch_that_is_over_keeps_nothing_of_the_request(after_s: float) -> None:
    """What the server has of it goes at once, and not when garbage is looked for, which under load is seldom."""
    gc.disable()
    try:
        line = Line()
        kept = weakref.ref(line)
        async with ClientWatch(line.receive, after_s=after_s):
            await asyncio.sleep(0.01)
        del line
        await asyncio.sleep(0.01)
        assert kept() is None
    finally:
        gc.enable()
