"""P1 under fire: several replicas, many callers released together, limits that are too small for all of them."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    extend,
    release,
    reserve,
    settle,
    submit_together,
    together,
)
from odea_contracts.errors import Failure
from odea_contracts.quota import Denied, Limit, Reserved, Settled
from odea_quota.ledger import Answer, Command

_CALLERS = 64
_AT_ONCE = 5
"""Operations that one caller of the long race starts side by side."""
_OVER = """
SELECT account_id, used, held, in_flight FROM quota.balances
WHERE used + held > units_limit OR in_flight > in_flight_max OR used < 0 OR held < 0 OR in_flight < 0
"""


def _outcomes(answers: list[Answer]) -> Counter[str]:
    return Counter(answer.limit.value if isinstance(answer, Denied) else type(answer).__name__ for answer in answers)


@pytest.mark.parametrize(
    ("plan", "admitted", "limit"),
    [
        ({"units": 100}, 33, Limit.UNITS),
        ({"units": None, "in_flight_max": 17}, 17, Limit.IN_FLIGHT),
        ({"units": None, "requests_per_minute": 1, "requests_burst": 9}, 9, Limit.REQUESTS),
    ],
)
async def test_of_64_callers_at_once_exactly_as_many_get_through_as_fit(
    ledgers: list[Ledger], sql: asyncpg.Connection, plan: dict[str, Any], admitted: int, limit: Limit
) -> None:
    await ledgers[0].open_account(**plan)
    answers = await submit_together(ledgers, [reserve(3) for _ in range(_CALLERS)])
    assert _outcomes(answers) == {"Reserved": admitted, limit.value: _CALLERS - admitted}
    assert await ledgers[0].used_and_held() == (0, 3 * admitted, admitted)
    await balances_are_true(sql, ledgers[0])


async def test_a_tenant_and_its_keys_are_exact_together(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    """Four keys with 20 units each and a tenant with 50: what one account refuses, the other has not taken."""
    await ledgers[0].open_account("tenant", units=50)
    for number in range(4):
        await ledgers[0].open_account(f"key_{number}", units=20)
    answers = await submit_together(ledgers, [reserve(2, "tenant", f"key_{number % 4}") for number in range(_CALLERS)])
    assert _outcomes(answers)["Reserved"] == 25
    held = [(await ledgers[0].balance(f"key_{number}")).held for number in range(4)]
    assert sum(held) == 50
    assert max(held) <= 20
    await balances_are_true(sql, ledgers[0])


async def test_rivals_for_the_end_of_a_hold_have_one_winner(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    await ledgers[0].open_account()
    for _ in range(10):
        hold = reserve(2)
        await ledgers[0].submit(hold)
        rivals: list[Command] = [settle(hold.hold_id, 1), settle(hold.hold_id, 2), release(hold.hold_id)]
        answers = await submit_together(ledgers, rivals * 3)
        assert len({type(answer) for answer in answers} & {Settled}) <= 1
        assert await sql.fetchval("SELECT count(*) FROM quota.resolutions WHERE hold_id = $1", hold.hold_id) == 1
    await balances_are_true(sql, ledgers[0])


class _Caller:
    """Reserves, settles, releases and extends at random, and remembers what it was told."""

    def __init__(self, ledgers: list[Ledger], seed: int) -> None:
        self._ledgers = ledgers
        self._random = random.Random(seed)
        self._open: list[tuple[str, int]] = []
        self.charged = 0
        self.answers: Counter[str] = Counter()

    async def run(self, operations: int) -> None:
        for _ in range(operations // _AT_ONCE):
            commands = [self._command() for _ in range(_AT_ONCE)]
            for answer in await submit_together([self._random.choice(self._ledgers)], commands):
                self._remember(answer)

    def _remember(self, answer: Answer) -> None:
        # Anything that goes wrong inside is a failure, be it a wall that held or a lock that was not got.
        assert not isinstance(answer, Failure), answer
        self.answers[type(answer).__name__] += 1
        if isinstance(answer, Reserved):
            self._open.append((answer.hold_id, answer.units))
        elif isinstance(answer, Settled):
            self.charged += answer.units

    def _command(self) -> Command:
        kind = self._random.random()
        if kind < 0.5 or not self._open:
            accounts = self._random.choice([("tenant",), ("tenant", "key_a"), ("tenant", "key_b"), ("other",)])
            return reserve(self._random.randint(1, 9), *accounts, key_id=accounts[-1])
        if kind < 0.6:
            return extend(self._random.choice(self._open)[0])
        hold_id, units = self._open.pop(self._random.randrange(len(self._open)))
        return release(hold_id) if kind < 0.75 else settle(hold_id, self._random.randint(0, units // 2))


@asynccontextmanager
async def _sampled(dsn: str) -> AsyncGenerator[list[tuple[Any, ...]]]:
    """Look at the balances again and again during the block; what was over is in the list."""
    over: list[tuple[Any, ...]] = []
    looks = 0
    done = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        connection = await asyncpg.connect(dsn)
        try:
            while not done.is_set():
                over.extend(tuple(row) for row in await connection.fetch(_OVER))
                looks += 1
                await asyncio.sleep(0.005)
        finally:
            await connection.close()

    sampling = asyncio.create_task(look())
    yield over
    done.set()
    await sampling
    assert looks > 50


async def test_twenty_thousand_random_operations_leave_no_unit_unaccounted_for(
    ledgers: list[Ledger], quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """P1 at every sampled instant and at the end; P2, since what callers were told is what is on record."""
    await ledgers[0].open_account("tenant", units=9_000, in_flight_max=40)
    await ledgers[0].open_account("key_a", units=500, requests_per_minute=1_000_000, requests_burst=1_000_000)
    await ledgers[0].open_account("key_b", units=3_000, in_flight_max=7)
    await ledgers[0].open_account("other", units=None, in_flight_max=20)
    callers = [_Caller(ledgers, seed) for seed in range(32)]

    def start(caller: _Caller) -> Callable[[], Awaitable[None]]:
        return lambda: caller.run(20_000 // len(callers))

    async with _sampled(quota_dsn) as over:
        await together(*(start(caller) for caller in callers))
    assert over == []
    answers = sum((caller.answers for caller in callers), Counter[str]())
    assert answers.total() == 20_000
    assert answers["Reserved"] > 1_000
    assert answers["Denied"] > 1_000
    charged = await sql.fetchval("SELECT sum(units_settled) FROM quota.resolutions")
    assert sum(caller.charged for caller in callers) == charged
    left = (await ledgers[0].balance("key_a")).remaining
    assert left is not None
    assert left < 25, "the limits were meant to be reached"
    await balances_are_true(sql, ledgers[0])
