"""Group commit: commands that arrive while a batch is under way share the next one.

A lone command waits for nobody. Under load the batch grows by itself, and one commit serves all of it. A batch that is
slow, since somebody has one of its accounts locked, is overtaken by the other accounts' commands.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Denied, ExceedsHold, Extend, Reserve, Settled
from odea_quota.book import Expire
from odea_quota.command_queue import CommandQueue, Waiting
from odea_quota.ledger import Answer, Command
from odea_runtime import tracing
from odea_runtime.postgres import StorageUnavailableError

Apply: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Answer]]]

_FAULTS_OF_ONE: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)
"""What a single command can bring on its whole batch: a clash with another replica, or a value that can't be stored."""
_REMEMBERED_MAX: Final = 100_000
_BUCKETS: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048)

_DECISIONS = Counter("odea_quota_decisions_total", "Commands decided", ["command", "outcome"])
_BATCH = Histogram("odea_quota_batch_size", "Commands in a transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 400))
_SECONDS = Histogram("odea_quota_decision_seconds", "From arrival to durable answer", buckets=_BUCKETS)
_LATE = Counter("odea_quota_late_settles_total", "Holds settled after they had expired")


class Batcher:
    """Collects commands and applies them in batches.

    Args:
        apply: decides and writes a batch in one transaction.
        batch_max: commands in one transaction.
        queue_max: commands of one account that wait; those of all together may be so many for each lane.
        lanes: batches under way side by side, no two with the same account.
        slow_s: how long a batch may take before another one sets out beside it.
    """

    def __init__(self, apply: Apply, *, batch_max: int, queue_max: int, lanes: int, slow_s: float) -> None:
        self._apply = apply
        self._batch_max = batch_max
        self._slow_s = slow_s
        self._lanes = asyncio.Semaphore(lanes)
        self._queue = CommandQueue(account_max=queue_max, waiting_max=queue_max * lanes)
        self._account_of_hold: OrderedDict[str, str] = OrderedDict()
        self._ended = False

    async def submit(self, command: Command) -> Answer:
        """Wait for the command's durable answer; a `Failure` if it can't be given."""
        if self._ended:
            return _refuse(command, ErrorCode.QUOTA_UNAVAILABLE)
        waiting = Waiting(command, self._account_of(command), asyncio.get_running_loop().create_future())
        if not self._queue.add(waiting):
            return _refuse(command, ErrorCode.OVERLOADED)
        return await waiting.answer

    async def run(self) -> None:
        """Work until cancelled. Commands that then still wait, or come later, are answered with a failure."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._lanes.acquire()
                    batch = await self._queue.take(self._batch_max)
                    work = group.create_task(self._work(batch))
                    await asyncio.wait({work}, timeout=self._slow_s)
        finally:
            self._ended = True
            _answer_all(self._queue.empty(), failure(ErrorCode.QUOTA_UNAVAILABLE))

    def _account_of(self, command: Command) -> str:
        if isinstance(command, Reserve):
            account_id = self._account_of_hold[command.hold_id] = command.accounts[0]
            if len(self._account_of_hold) > _REMEMBERED_MAX:
                self._account_of_hold.popitem(last=False)
            return account_id
        known = command.account_id if isinstance(command, Expire) else None
        # A hold of another replica's, or of another life, may meet its account in another batch: the database tells.
        return self._account_of_hold.get(command.hold_id) or known or command.hold_id

    def _forget(self, command: Command, answer: Answer) -> None:
        """Once a hold has ended, or was refused, that is as a rule the last that is heard of it.

        Not before: what failed is asked again, and must wait for its account again if that is what is stuck.
        """
        if isinstance(command, Reserve):
            over = isinstance(answer, Denied)
        else:
            over = not isinstance(command, Extend) and not isinstance(answer, Failure | ExceedsHold)
        if over:
            self._account_of_hold.pop(command.hold_id, None)

    async def _work(self, batch: list[Waiting]) -> None:
        try:
            await self._commit([waiting for waiting in batch if not waiting.answer.done()])
        except asyncio.CancelledError:
            _answer_all(batch, failure(ErrorCode.QUOTA_UNAVAILABLE))
            raise
        finally:
            self._queue.done(batch)
            self._lanes.release()

    async def _commit(self, batch: list[Waiting], *, again: bool = False) -> None:
        if not batch:
            return
        _BATCH.observe(len(batch))
        try:
            with tracing.working("commit", (waiting.place for waiting in batch)):
                answers = await self._apply([waiting.command for waiting in batch])
        except StorageUnavailableError:
            # Whether it was written is not known, so nothing is claimed. Asking again with the same hold id is safe.
            _answer_all(batch, failure(ErrorCode.QUOTA_UNAVAILABLE))
        except _FAULTS_OF_ONE as error:
            await self._commit_singly(batch, error, again=again)
        except Exception:  # noqa: BLE001 - a fault of ours fails this batch and must not end the others
            structlog.get_logger().exception("a batch could not be decided")
            _answer_all(batch, failure(ErrorCode.INTERNAL_ERROR))
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                self._forget(waiting.command, answer)
                _answer(waiting, answer)

    async def _commit_singly(self, batch: list[Waiting], error: asyncpg.PostgresError, *, again: bool) -> None:
        """Try each command once more by itself: the others do not suffer, and a clash is then seen and named."""
        if not again:
            for waiting in batch:
                await self._commit([waiting], again=True)
            return
        constraint = error.as_dict().get("constraint_name")
        structlog.get_logger().error("the database refused a command", kind=type(error).__name__, constraint=constraint)
        _answer_all(batch, failure(ErrorCode.INTERNAL_ERROR))


def _answer(waiting: Waiting, answer: Answer) -> None:
    """Answer it, unless whoever asked has left."""
    _count(waiting.command, answer)
    _SECONDS.observe(time.perf_counter() - waiting.began)
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _answer_all(batch: Iterable[Waiting], answer: Failure) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            _answer(waiting, answer)


def _refuse(command: Command, code: ErrorCode) -> Failure:
    refused = failure(code)
    _count(command, refused)
    return refused


def _count(command: Command, answer: Answer) -> None:
    _decisions(type(command), _outcome(answer)).inc()
    if isinstance(answer, Settled) and answer.late:
        _LATE.inc()


@lru_cache(maxsize=256)
def _decisions(command: type[Command], outcome: str) -> Counter:
    """Finding a counter by its labels costs more than counting."""
    return _DECISIONS.labels(command.__name__.lower(), outcome)


def _outcome(answer: Answer) -> str:
    if isinstance(answer, Failure):
        return answer.code
    if isinstance(answer, Denied):
        return f"denied_{answer.limit}"
    return str(type(answer).__struct_config__.tag)
