"""P9 and P2 without the database: said within 2 s, healed without a restart, and nothing charged twice."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    open_ledger,
    release,
    reserve,
    settle,
    together,
    until_waiting,
)
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Released, Reserved, Settled
from odea_quota.batcher import Batcher
from odea_quota.ledger import Answer, Command
from odea_runtime.postgres import StorageUnavailableError
from support.databases import Databases
from support.servers import PostgresServer
from support.waiting import until

_TIMEOUT_S = 1.5
"""What a service in production is set to."""
_PROMISED_S = 2.0
_CALLERS = 16
_ROUNDS = 12


class _Caller:
    """Speaks and pays, one hold after the other, and asks again with the same id whenever quotas are unavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.rounds = 0
        self.refused_after_s: list[float] = []
        self.measuring = True

    async def run(self) -> None:
        for _ in range(_ROUNDS):
            command = reserve(3)
            assert isinstance(await self._insist(command), Reserved)
            assert isinstance(await self._insist(settle(command.hold_id, 2)), Settled)
            self.rounds += 1

    async def _insist(self, command: Command) -> Answer:
        while True:
            began = time.monotonic()
            answer = await self._ledger.submit(command)
            if not isinstance(answer, Failure):
                return answer
            assert answer.code is ErrorCode.QUOTA_UNAVAILABLE, answer
            if self.measuring:
                self.refused_after_s.append(time.monotonic() - began)
            await asyncio.sleep(0.05)


async def test_postgres_dies_and_comes_back_in_the_middle_of_the_work(breakable_postgres: PostgresServer) -> None:
    dsn = await Databases(breakable_postgres.dsn).create("quota")
    async with open_ledger(dsn, timeout_s=_TIMEOUT_S, sweep_s=0.1) as ledger:
        await ledger.open_account(units=None)
        callers = [_Caller(ledger) for _ in range(_CALLERS)]
        working = asyncio.create_task(together(*(caller.run for caller in callers)))
        await until(lambda: all(caller.rounds for caller in callers))
        breakable_postgres.kill()
        await until(lambda: all(caller.refused_after_s for caller in callers))
        with pytest.raises(StorageUnavailableError):
            await ledger.balance()
        for caller in callers:
            # The restart blocks this loop, and what is asked meanwhile takes as long.
            caller.measuring = False
        breakable_postgres.restart()
        await working
        assert max(max(caller.refused_after_s) for caller in callers) < _PROMISED_S
        sql = await asyncpg.connect(dsn)
        try:
            assert await sql.fetchval("SELECT count(*) FROM quota.resolutions") == _CALLERS * _ROUNDS
            assert await ledger.used_and_held() == (2 * _CALLERS * _ROUNDS, 0, 0)
            await balances_are_true(sql, ledger)
        finally:
            await sql.close()


class _LostAnswers:
    """A database whose commits succeed and whose confirmations get lost, as long as it is told so."""

    def __init__(self, ledger: Ledger) -> None:
        self._store = ledger.store
        self.losing = True

    async def apply(self, commands: Sequence[Command]) -> list[Answer]:
        answers = await self._store.apply(commands)
        if self.losing:
            raise StorageUnavailableError("the connection broke after the commit")
        return answers


@asynccontextmanager
async def _losing(ledger: Ledger) -> AsyncGenerator[tuple[_LostAnswers, Batcher]]:
    lost = _LostAnswers(ledger)
    batcher = Batcher(lost.apply, batch_max=10, queue_max=10, lanes=1, slow_s=1)
    working = asyncio.create_task(batcher.run())
    try:
        yield lost, batcher
    finally:
        working.cancel()
        await asyncio.wait([working])


async def test_what_was_written_before_the_answer_was_lost_is_found_and_not_written_again(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account()
    held, given_back = reserve(50), reserve(20)
    commands: list[Command] = [held, settle(held.hold_id, 30), given_back, release(given_back.hold_id)]
    async with _losing(ledger) as (lost, batcher):
        for command in commands:
            lost.losing = True
            assert await batcher.submit(command) == failure(ErrorCode.QUOTA_UNAVAILABLE)
            before = await ledger.used_and_held()
            lost.losing = False
            answer = await batcher.submit(command)
            assert isinstance(answer, Reserved | Settled | Released)
            assert await ledger.used_and_held() == before
    assert await ledger.used_and_held() == (30, 0, 0)
    await balances_are_true(sql, ledger)


async def test_an_account_that_somebody_locks_for_good_is_unavailable_in_time_and_the_others_are_not(
    quota_dsn: str, sql: asyncpg.Connection
) -> None:
    async with open_ledger(quota_dsn, lanes=2, timeout_s=_TIMEOUT_S) as ledger:
        await ledger.open_account("stuck")
        others = [f"free_{number}" for number in range(8)]
        for name in others:
            await ledger.open_account(name)
        async with sql.transaction():
            await sql.execute("SELECT FROM quota.balances WHERE account_id = 'stuck' FOR UPDATE")
            began = time.monotonic()
            stuck = asyncio.create_task(ledger.submit(reserve(1, "stuck")))
            await until_waiting(sql, 1)
            for answer in await asyncio.gather(*(ledger.submit(reserve(1, name)) for name in others)):
                assert isinstance(answer, Reserved)
            assert not stuck.done()
            assert await stuck == failure(ErrorCode.QUOTA_UNAVAILABLE)
            assert time.monotonic() - began < _PROMISED_S
        assert isinstance(await ledger.submit(reserve(1, "stuck")), Reserved)
