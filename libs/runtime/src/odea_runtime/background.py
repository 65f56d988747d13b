"""Work that goes on beside the serving, for as long as the service runs."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run `work` while the block is open. If it fails, the process is told to end: it would serve only in part.

    Its fault is raised again when the block ends, so that the process does not end as if all were well.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_end_process_on_fault)
    try:
        yield
    finally:
        fault = task.exception() if task.done() and not task.cancelled() else None
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
    if fault:
        raise fault


def _end_process_on_fault(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        structlog.get_logger().error("background work failed; the process ends", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)


async def unless(stop: asyncio.Event, starting: Coroutine[Any, Any, None]) -> bool:
    """Await `starting`, but give it up when `stop` is set; whether it was done. For starts that may wait for ever."""
    task, stopped = asyncio.create_task(starting), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        await task
        return True
    finally:
        for each in (task, stopped):
            each.cancel()
        await asyncio.wait([task, stopped])
