"""Noticing that a client left while it is served; one that closes just its sending half counts as gone."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

from litestar.types import Receive

WATCH_AFTER_S: Final = 0.4
"""Watching costs a fifth of a short request, and a client that leaves is remembered: it may as well begin late."""


class ClientGoneError(Exception):
    """The client closed its connection."""


class ClientWatch:
    """Interrupts the task inside the block when the client leaves, and raises `ClientGoneError` in place of that.

    The body of the request must have been read: what comes after it is only the end.

    Args:
        receive: of the request.
        after_s: how long the block may last before it is watched. Whoever left before is noticed then.
    """

    def __init__(self, receive: Receive, *, after_s: float = WATCH_AFTER_S) -> None:
        self._receive = receive
        self._after_s = after_s
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._cancelling = 0
        self.gone = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._after_s, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self.release()
        if self.gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGoneError from None

    def release(self) -> None:
        """Stop watching: from here on it makes no difference."""
        timer, watch = self._timer, self._watch
        # Let go of: a ring of these would keep what the server has of the request until garbage is looked for.
        self._timer = self._watch = None
        if timer:
            timer.cancel()
        if watch:
            watch.cancel()

    def _begin(self) -> None:
        self._timer, self._watch = None, asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task:
            self._task.cancel()
