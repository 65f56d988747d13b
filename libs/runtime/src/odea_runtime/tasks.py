"""A bounded set of running tasks: work beyond the bound is refused at once, and a shutdown waits for what runs."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Runs coroutines side by side, never more than `tasks_max`."""

    def __init__(self, tasks_max: int) -> None:
        self._tasks_max = tasks_max
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return len(self._running) >= self._tasks_max

    def start(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` in the background; `False` means that the set is full and `work` was closed unrun."""
        if self.full:
            work.close()
            return False
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def drain(self, timeout_s: float) -> None:
        """Wait for all that run, then cancel what is left after `timeout_s`."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
