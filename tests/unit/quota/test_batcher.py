"""Group commit: who waits for whom, and whose fault fails whom. The store is a stub that answers when it is told to."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.quota import HoldConflict, Released, Reserve
from odea_quota.batcher import Apply, Batcher
from odea_quota.book import Expire
from odea_quota.ledger import Answer, Command
from odea_runtime.postgres import StorageUnavailableError
from support.waiting import until
from unit.quota.samples import hold_id, release, reserve, settle


class StubStore:
    """Answers every command with `Released`, a batch at a time, as soon as the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun: list[list[str]] = []
        self.faults: dict[str, list[Exception]] = {}
        self.stuck: set[str] = set()
        """Accounts whose batches wait for the gate; all do if this is empty."""

    async def apply(self, commands: Sequence[Command]) -> list[Answer]:
        self.begun.append([command.hold_id for command in commands])
        accounts = {name for command in commands if isinstance(command, Reserve) for name in command.accounts}
        if not self.stuck or accounts & self.stuck:
            await self.gate.wait()
        for command in commands:
            for fault in self.faults.get(command.hold_id, [])[:1]:
                self.faults[command.hold_id].pop(0)
                raise fault
        return [Released(hold_id=command.hold_id) for command in commands]

    def always(self, fault: Exception, number: int) -> None:
        """Whatever holds this command fails, however often it is tried."""
        self.faults[hold_id(number)] = [fault] * 10

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.begun]


@pytest.fixture
def store() -> StubStore:
    return StubStore()


@asynccontextmanager
async def _batching(
    apply: Apply, *, batch_max: int = 100, queue_max: int = 100, lanes: int = 1, slow_s: float = 0.01
) -> AsyncGenerator[Batcher]:
    batcher = Batcher(apply, batch_max=batch_max, queue_max=queue_max, lanes=lanes, slow_s=slow_s)
    work = asyncio.create_task(batcher.run())
    try:
        yield batcher
        assert not work.done(), "the batcher ended by itself"
    finally:
        work.cancel()
        await asyncio.wait([work])


async def _submit(batcher: Batcher, *commands: Command) -> list[asyncio.Task[Answer]]:
    """Submit all, in order; returns when each of them waits."""
    tasks = [asyncio.create_task(batcher.submit(command)) for command in commands]
    await asyncio.sleep(0)
    return tasks


async def _behind_one(batcher: Batcher, store: StubStore, *commands: Command) -> list[asyncio.Task[Answer]]:
    """Submit `commands` while a batch of one is under way."""
    first = await _submit(batcher, release(0))
    await until(lambda: store.sizes == [1])
    return first + await _submit(batcher, *commands)


def _codes(answers: Sequence[Answer]) -> list[str]:
    return [answer.code if isinstance(answer, Failure) else "ok" for answer in answers]


_CLASH = asyncpg.UniqueViolationError("holds_pkey")
_UNSTORABLE = asyncpg.CharacterNotInRepertoireError("invalid byte sequence")


async def test_a_lone_command_waits_for_nobody(store: StubStore) -> None:
    store.gate.set()
    async with _batching(store.apply) as batcher:
        assert await batcher.submit(release(1)) == Released(hold_id=hold_id(1))
    assert store.sizes == [1]


async def test_what_arrives_during_a_batch_shares_the_next_in_the_order_of_arrival(store: StubStore) -> None:
    async with _batching(store.apply) as batcher:
        tasks = await _behind_one(batcher, store, *(release(number) for number in range(1, 11)))
        store.gate.set()
        answers = await asyncio.gather(*tasks)
    assert answers == [Released(hold_id=hold_id(number)) for number in range(11)]
    assert store.begun[1] == [hold_id(number) for number in range(1, 11)]


async def test_a_batch_is_bounded(store: StubStore) -> None:
    async with _batching(store.apply, batch_max=10) as batcher:
        tasks = await _behind_one(batcher, store, *(release(number) for number in range(1, 26)))
        store.gate.set()
        await asyncio.gather(*tasks)
    assert store.sizes == [1, 10, 10, 5]


async def test_more_than_the_queue_holds_is_refused_at_once_and_the_others_are_served(store: StubStore) -> None:
    async with _batching(store.apply, queue_max=3) as batcher:
        tasks = await _behind_one(batcher, store, *(release(number) for number in range(1, 4)))
        assert _codes([await batcher.submit(release(9))]) == [ErrorCode.OVERLOADED]
        store.gate.set()
        assert _codes(await asyncio.gather(*tasks)) == ["ok"] * 4
    assert hold_id(9) not in store.begun[1]


async def test_without_storage_nothing_is_claimed_and_the_next_batch_is_tried(store: StubStore) -> None:
    store.faults[hold_id(2)] = [StorageUnavailableError("gone")]
    async with _batching(store.apply) as batcher:
        tasks = await _behind_one(batcher, store, release(1), release(2), release(3))
        store.gate.set()
        answers = await asyncio.gather(*tasks)
        assert _codes(answers) == ["ok", *[ErrorCode.QUOTA_UNAVAILABLE] * 3]
        assert await batcher.submit(release(2)) == Released(hold_id=hold_id(2))
    # What may have been written already is not written again behind the caller's back.
    assert store.sizes == [1, 3, 1]


@pytest.mark.parametrize("fault", [_CLASH, _UNSTORABLE])
async def test_a_poisoned_command_fails_alone(store: StubStore, fault: Exception) -> None:
    store.always(fault, 2)
    async with _batching(store.apply) as batcher:
        tasks = await _behind_one(batcher, store, release(1), release(2), release(3))
        store.gate.set()
        answers = await asyncio.gather(*tasks)
    assert _codes(answers) == ["ok", "ok", ErrorCode.INTERNAL_ERROR, "ok"]


async def test_a_lone_command_that_clashed_with_another_replica_is_decided_again(store: StubStore) -> None:
    """The other replica's hold stands now, so the second look finds it and has a name for it."""
    store.gate.set()
    store.faults[hold_id(1)] = [_CLASH]
    async with _batching(store.apply) as batcher:
        assert await batcher.submit(release(1)) == Released(hold_id=hold_id(1))
        store.always(_CLASH, 2)
        assert _codes([await batcher.submit(release(2))]) == [ErrorCode.INTERNAL_ERROR]
    assert store.sizes == [1, 1, 1, 1]


async def test_an_outage_among_single_commits_is_told_to_those_whom_it_hits(store: StubStore) -> None:
    store.faults[hold_id(1)] = [_CLASH]
    store.faults[hold_id(2)] = [StorageUnavailableError("gone")]
    async with _batching(store.apply) as batcher:
        tasks = await _behind_one(batcher, store, release(1), release(2), release(3))
        store.gate.set()
        answers = await asyncio.gather(*tasks)
    assert _codes(answers) == ["ok", "ok", ErrorCode.QUOTA_UNAVAILABLE, "ok"]


async def test_a_fault_of_ours_fails_its_batch_and_no_other(store: StubStore) -> None:
    store.faults[hold_id(1)] = [ZeroDivisionError()]
    store.gate.set()
    async with _batching(store.apply) as batcher:
        assert _codes([await batcher.submit(release(1))]) == [ErrorCode.INTERNAL_ERROR]
        assert _codes([await batcher.submit(release(2))]) == ["ok"]


async def test_a_caller_that_left_while_waiting_is_left_out_and_disturbs_nobody(store: StubStore) -> None:
    async with _batching(store.apply) as batcher:
        _, *tasks = await _behind_one(batcher, store, release(1), release(2), release(3))
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        store.gate.set()
        assert _codes(await asyncio.gather(tasks[0], tasks[2])) == ["ok", "ok"]
    assert store.begun[1] == [hold_id(1), hold_id(3)]


async def test_a_caller_that_left_during_its_batch_disturbs_nobody(store: StubStore) -> None:
    async with _batching(store.apply) as batcher:
        tasks = await _submit(batcher, release(1), release(2))
        await until(lambda: store.sizes == [2])
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        store.gate.set()
        assert _codes([await tasks[1]]) == ["ok"]
        assert _codes([await batcher.submit(release(3))]) == ["ok"]


async def test_a_batch_that_everybody_left_is_not_applied(store: StubStore) -> None:
    async with _batching(store.apply) as batcher:
        first, *tasks = await _behind_one(batcher, store, release(1), release(2))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        store.gate.set()
        await first
        assert _codes([await batcher.submit(release(3))]) == ["ok"]
    assert store.begun == [[hold_id(0)], [hold_id(3)]]


async def test_a_stuck_account_delays_no_other(store: StubStore) -> None:
    """And its own commands meet in one batch behind the one that is stuck."""
    store.stuck = {"hot"}
    async with _batching(store.apply, lanes=2) as batcher:
        hot = await _submit(batcher, reserve(1, 1, "hot"))
        await until(lambda: len(store.begun) == 1)
        hot += await _submit(batcher, *(reserve(number, 1, "hot") for number in range(2, 6)))
        cold = await _submit(batcher, *(reserve(100 + number, 1, f"cold_{number}") for number in range(20)))
        assert _codes(await asyncio.gather(*cold)) == ["ok"] * 20
        assert not any(task.done() for task in hot)
        store.gate.set()
        await asyncio.gather(*hot)
    assert store.sizes == [1, 20, 4]


async def test_while_a_batch_is_quick_all_wait_for_the_next(store: StubStore) -> None:
    """One large batch costs less than several small ones side by side."""
    async with _batching(store.apply, lanes=4, slow_s=60) as batcher:
        first = await _submit(batcher, reserve(1, 1, "one"))
        await until(lambda: len(store.begun) == 1)
        rest = await _submit(batcher, *(reserve(number, 1, f"other_{number}") for number in range(2, 5)))
        await asyncio.sleep(0.02)
        assert store.sizes == [1]
        store.gate.set()
        await asyncio.gather(*first, *rest)
    assert store.sizes == [1, 3]


async def test_no_more_are_stuck_side_by_side_than_there_are_lanes(store: StubStore) -> None:
    store.stuck = {"one", "two"}
    async with _batching(store.apply, lanes=2) as batcher:
        tasks: list[asyncio.Task[Answer]] = []
        for number, name in enumerate(("one", "two", "free")):
            tasks += await _submit(batcher, reserve(number, 1, name))
            await until(lambda number=number: len(store.begun) == min(number + 1, 2))
        await asyncio.sleep(0.03)
        assert store.sizes == [1, 1]
        store.gate.set()
        assert _codes(await asyncio.gather(*tasks)) == ["ok"] * 3


async def test_a_stuck_account_leaves_room_for_the_others_to_wait(store: StubStore) -> None:
    async with _batching(store.apply, queue_max=3, lanes=2, slow_s=60) as batcher:
        tasks = await _submit(batcher, reserve(0, 1, "hot"))
        await until(lambda: len(store.begun) == 1)
        tasks += await _submit(batcher, *(reserve(number, 1, "hot") for number in range(1, 4)))
        assert _codes([await batcher.submit(reserve(4, 1, "hot"))]) == [ErrorCode.OVERLOADED]
        tasks += await _submit(batcher, *(reserve(number, 1, f"other_{number}") for number in range(5, 8)))
        assert _codes([await batcher.submit(reserve(8, 1, "last"))]) == [ErrorCode.OVERLOADED]
        store.gate.set()
        assert _codes(await asyncio.gather(*tasks)) == ["ok"] * 7
        again = await asyncio.gather(*(batcher.submit(reserve(number, 1, "hot")) for number in range(11, 14)))
        assert _codes(again) == ["ok"] * 3, "whoever was served has left the queue"


async def test_a_hold_is_settled_with_the_other_commands_of_its_account(store: StubStore) -> None:
    """So that it meets the account's other commands in one batch instead of waiting for their lock."""
    store.gate.set()
    numbers = range(1, 21)
    async with _batching(store.apply, lanes=4) as batcher:
        await asyncio.gather(*(batcher.submit(reserve(number, 1, "hot")) for number in numbers))
        store.gate.clear()
        before = len(store.begun)
        first = await _submit(batcher, reserve(50, 1, "hot"))
        await until(lambda: len(store.begun) == before + 1)
        tasks = await _submit(batcher, *(settle(number, 1) for number in numbers))
        await asyncio.sleep(0.03)
        assert len(store.begun) == before + 1
        store.gate.set()
        await asyncio.gather(*first, *tasks)
    assert store.begun[before + 1 :] == [[hold_id(number) for number in numbers]]


async def test_what_failed_on_a_stuck_account_waits_for_it_again(store: StubStore) -> None:
    """In another batch it would be stuck as well, and everybody else's commands in there with it."""
    store.gate.set()
    store.faults[hold_id(1)] = [StorageUnavailableError("locked")]
    async with _batching(store.apply, lanes=4) as batcher:
        assert _codes([await batcher.submit(reserve(1, 1, "hot"))]) == [ErrorCode.QUOTA_UNAVAILABLE]
        store.faults[hold_id(1)] = [StorageUnavailableError("locked")]
        assert _codes([await batcher.submit(settle(1, 1))]) == [ErrorCode.QUOTA_UNAVAILABLE]
        store.gate.clear()
        store.stuck = {"hot"}
        stuck = await _submit(batcher, reserve(2, 1, "hot"))
        await until(lambda: store.begun[-1] == [hold_id(2)])
        again = await _submit(batcher, settle(1, 1))
        assert _codes([await batcher.submit(reserve(3, 1, "cold"))]) == ["ok"]
        assert store.begun[-1] == [hold_id(3)]
        store.gate.set()
        assert _codes(await asyncio.gather(*stuck, *again)) == ["ok"] * 2


async def test_a_hold_of_another_life_expires_with_the_other_commands_of_its_account(store: StubStore) -> None:
    store.stuck = {"hot"}
    async with _batching(store.apply, lanes=4) as batcher:
        tasks = await _submit(batcher, reserve(1, 1, "hot"))
        await until(lambda: store.sizes == [1])
        tasks += await _submit(batcher, Expire(hold_id(2), "hot"), Expire(hold_id(3), "cold"))
        assert _codes([await tasks[2]]) == ["ok"]
        await asyncio.sleep(0.03)
        assert not tasks[1].done()
        store.gate.set()
        await asyncio.gather(*tasks)
    assert store.begun[1:] == [[hold_id(3)], [hold_id(2)]]


async def test_a_shutdown_answers_all_that_wait(store: StubStore) -> None:
    async with _batching(store.apply) as batcher:
        tasks = await _behind_one(batcher, store, release(1), release(2))
    assert _codes(await asyncio.gather(*tasks)) == [ErrorCode.QUOTA_UNAVAILABLE] * 3
    assert _codes([await batcher.submit(release(3))]) == [ErrorCode.QUOTA_UNAVAILABLE], "and those who come too late"


async def test_the_answer_is_the_command_s_own() -> None:
    async def answer(commands: Sequence[Command]) -> list[Answer]:
        return [HoldConflict(hold_id=command.hold_id) for command in commands]

    async with _batching(answer, lanes=3) as batcher:
        answers = await asyncio.gather(*(batcher.submit(release(number)) for number in range(50)))
    assert answers == [HoldConflict(hold_id=hold_id(number)) for number in range(50)]
