"""Two replicas that meet at one hold, in the worst order that there is: whoever comes second learns what happened.

The order is forced by locks that the test holds: a step is taken when the one before it is seen to wait.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

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
    until_waiting,
    write_off,
)
from odea_contracts.quota import Extended, HoldConflict, ReleasedBefore, Reserved, Settled, SettledBefore
from odea_quota.book import Expire
from odea_quota.ledger import Command
from odea_runtime.ids import new_uuid

_OPEN_HOLD = """
INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
VALUES ($1, $2, $3, now() + interval '1 h', now(), 'req', 'ten', 'key')
"""
_TAKE = "UPDATE quota.balances SET held = held + $2, in_flight = in_flight + 1 WHERE account_id = $1"


@asynccontextmanager
async def _locked(dsn: str, account_id: str) -> AsyncGenerator[asyncpg.Connection]:
    """Keep an account's balance for the time of the block, as another replica would; the block's writes commit."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM quota.balances WHERE account_id = $1 FOR UPDATE", account_id)
            yield connection
    finally:
        await connection.close()


async def _accounts(ledger: Ledger) -> None:
    for account_id in ("first", "second", "third"):
        await ledger.open_account(account_id)


async def test_one_id_for_two_accounts_at_once_has_one_winner(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    """P1: not even the accounts are common, so no lock but that of the id itself decides."""
    await _accounts(ledgers[0])
    for _ in range(20):
        hold_id = new_uuid()
        commands: list[Command] = [reserve(2, name, hold_id=hold_id) for name in ("first", "second", "third")]
        answers = await submit_together(ledgers, commands)
        assert sorted(type(answer).__name__ for answer in answers) == ["HoldConflict", "HoldConflict", "Reserved"]
    assert await sql.fetchval("SELECT count(*) FROM quota.holds") == 20
    await balances_are_true(sql, ledgers[0])


async def test_one_id_with_other_units_at_once_has_one_winner(ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    await _accounts(ledgers[0])
    hold_id = new_uuid()
    answers = await submit_together(ledgers, [reserve(units, "first", hold_id=hold_id) for units in (1, 2, 3)])
    (winner,) = [answer for answer in answers if isinstance(answer, Reserved)]
    assert [answer for answer in answers if answer is not winner] == [HoldConflict(hold_id=hold_id)] * 2
    assert await sql.fetchval("SELECT units FROM quota.holds") == winner.units


async def test_one_request_delivered_to_every_replica_is_held_and_charged_once(
    ledgers: list[Ledger], sql: asyncpg.Connection
) -> None:
    """P2: the message came twice, and at the same time."""
    await _accounts(ledgers[0])
    command = reserve(30, "first")
    answers = await submit_together(ledgers, [command] * 3)
    assert {(type(answer), getattr(answer, "expires_at_ms", None)) for answer in answers} == {
        (Reserved, getattr(answers[0], "expires_at_ms", None))
    }
    answers = await submit_together(ledgers, [settle(command.hold_id, 20)] * 9)
    assert answers == [Settled(hold_id=command.hold_id, units=20)] * 9
    assert await ledgers[0].used_and_held("first") == (20, 0, 0)
    await balances_are_true(sql, ledgers[0])


@pytest.mark.parametrize("content", ["same", "other"])
async def test_a_hold_that_another_replica_opens_just_before_the_insert_is_found(
    ledgers: list[Ledger], quota_dsn: str, sql: asyncpg.Connection, content: str
) -> None:
    """The insert waits for the other's commit and then clashes; the second look has a name for it."""
    await _accounts(ledgers[0])
    hold_id = new_uuid()
    other = reserve(10, "first" if content == "other" else "second", hold_id=hold_id)
    async with _locked(quota_dsn, "third") as connection:
        # Uncommitted, so not to be seen; but its place in the index is taken.
        await connection.execute(_OPEN_HOLD, hold_id, list(other.accounts), other.units)
        await connection.execute(_TAKE, other.accounts[0], other.units)
        task = asyncio.create_task(ledgers[1].submit(reserve(10, "second", hold_id=hold_id)))
        await until_waiting(sql, 1)
    answer = await task
    assert isinstance(answer, HoldConflict if content == "other" else Reserved)
    await balances_are_true(sql, ledgers[0])


async def test_two_batches_that_lock_in_opposite_orders_end_in_time(
    ledgers: list[Ledger], sql: asyncpg.Connection
) -> None:
    """Both name both accounts, each in its own order; the ids' order is what counts."""
    await _accounts(ledgers[0])
    for _ in range(10):
        commands: list[Command] = [
            reserve(1, *names) for names in (("first", "second"), ("second", "first"), ("third", "first"))
        ]
        answers = await submit_together(ledgers, commands)
        assert [type(answer) for answer in answers] == [Reserved] * 3
        ended = await submit_together(ledgers, [release(command.hold_id) for command in commands])
        assert {type(answer).__name__ for answer in ended} == {"Released"}
    await balances_are_true(sql, ledgers[0])


@pytest.mark.parametrize(
    ("ahead", "behind", "answer"),
    [
        (partial(settle, units=20), release, SettledBefore),
        (release, settle, ReleasedBefore),
        (release, partial(extend, units=40), ReleasedBefore),
        (partial(extend, lease_ms=60_000), Expire, Extended),
        (write_off, partial(settle, units=20), SettledBefore),
    ],
    ids=["settled", "released", "released-before-raised", "extended", "written-off"],
)
async def test_what_another_replica_made_of_a_hold_while_one_waited_is_known(
    ledgers: list[Ledger],
    quota_dsn: str,
    sql: asyncpg.Connection,
    ahead: Callable[[str], Command],
    behind: Callable[[str], Command],
    answer: type,
) -> None:
    """P1, P2: the one behind looks at the hold before it gets the lock, and must not decide on what it saw then."""
    await _accounts(ledgers[0])
    held = reserve(30, "first", "second", lease_ms=1)
    assert isinstance(await ledgers[0].submit(held), Reserved)
    async with _locked(quota_dsn, "second"):
        tasks = [asyncio.create_task(ledgers[0].submit(ahead(held.hold_id)))]
        await until_waiting(sql, 1)
        tasks.append(asyncio.create_task(ledgers[1].submit(behind(held.hold_id))))
        await until_waiting(sql, 2)
    first, second = await asyncio.gather(*tasks)
    assert isinstance(second, answer), (first, second)
    await balances_are_true(sql, ledgers[0])
