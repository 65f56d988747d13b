"""Commands that wait to be decided, and which of them may go next."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Final

from odea_quota.ledger import Answer, Command
from odea_runtime import tracing


class Waiting:
    """A command that has no answer yet.

    Args:
        command: what is to be decided.
        account_id: whose it is; commands that may touch the same account have the same.
        answer: where the answer goes.
    """

    __slots__ = ("account_id", "answer", "began", "command", "place")

    def __init__(self, command: Command, account_id: str, answer: "asyncio.Future[Answer]") -> None:
        self.command: Final = command
        self.account_id: Final = account_id
        self.answer: Final = answer
        self.place: Final = tracing.place()
        self.began: Final = time.perf_counter()


class CommandQueue:
    """First come, first served, but for an account whose commands are in hand: it waits until those are done.

    Args:
        account_max: how many commands of one account may wait.
        waiting_max: how many of all accounts may.
    """

    def __init__(self, *, account_max: int, waiting_max: int) -> None:
        self._account_max = account_max
        self._waiting_max = waiting_max
        self._waiting: deque[Waiting] = deque()
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._in_hand: set[str] = set()
        self._wake = asyncio.Event()

    def add(self, waiting: Waiting) -> bool:
        """Let it wait; `False` if there is no room."""
        if len(self._waiting) >= self._waiting_max or self._counts.get(waiting.account_id, 0) >= self._account_max:
            return False
        self._waiting.append(waiting)
        self._counts[waiting.account_id] += 1
        if waiting.account_id not in self._in_hand:
            self._wake.set()
        return True

    async def take(self, count: int) -> list[Waiting]:
        """Take those in hand that may go, at most `count`, in the order of arrival. Waits until there is one."""
        while not (taken := self._pick(count)):
            self._wake.clear()
            await self._wake.wait()
        self._in_hand.update(waiting.account_id for waiting in taken)
        self._discount(taken)
        return taken

    def done(self, taken: Iterable[Waiting]) -> None:
        """They are in hand no more."""
        self._in_hand.difference_update(waiting.account_id for waiting in taken)
        self._wake.set()

    def empty(self) -> list[Waiting]:
        """All that wait; they do so no more."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._counts.clear()
        return taken

    def _pick(self, count: int) -> list[Waiting]:
        if not self._in_hand:
            return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        taken: list[Waiting] = []
        left: deque[Waiting] = deque()
        for waiting in self._waiting:
            may_go = len(taken) < count and waiting.account_id not in self._in_hand
            (taken if may_go else left).append(waiting)
        self._waiting = left
        return taken

    def _discount(self, taken: Iterable[Waiting]) -> None:
        for waiting in taken:
            self._counts[waiting.account_id] -= 1
            if not self._counts[waiting.account_id]:
                del self._counts[waiting.account_id]
