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
    """Run `work` while the block is open. If it fails, the process is told to end: it would serve only in part."""
    task = asyncio.create_task(work)
    task.add_done_callback(_end_process_on_fault)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def _end_process_on_fault(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        structlog.get_logger().error("background work failed; the process ends", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
