"""A time limit for a block of code, as `asyncio.timeout` at a third of its cost.

A request passes more than a dozen such blocks, nearly all of which end long before their limit.
"""

import asyncio
from types import TracebackType
from typing import Any, Self


class within:  # noqa: N801 - read as a word: `with within(2.0):`
    """Interrupts the block after `seconds` and raises `TimeoutError` in place of the interruption.

    For one use, in a task. As with `asyncio.timeout`, a cancellation from outside goes on as what it is; `expired`
    tells whoever meets that whether time was up as well.
    """

    __slots__ = ("_cancelling", "_seconds", "_task", "_timer", "expired")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.expired = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._timer = loop.call_later(self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Taken back however the block was left; what else was cancelled meanwhile stays so.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()
