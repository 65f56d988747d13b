"""Overrides, plan changes, suspension: which limits hold from when, and what becomes of what is used (P1)."""

import asyncio
from typing import Any

import asyncpg
import pytest

from integration.quota.harness import (
    Ledger,
    balances_are_true,
    end_windows,
    open_ledgers,
    release,
    reserve,
    settle,
    until_waiting,
)
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.plans import Account, AccountRef, AccountSet, Overrides, PlanSet
from odea_contracts.quota import Denied, Limit, Reserved, Settled, Window
from support.waiting import until

_PLAN = PlanSet(name="plain", units=100, requests_per_minute=600, requests_burst=10, in_flight_max=5)
_OTHER = PlanSet(name="grand", units=500, window=Window.DAY, requests_per_minute=60, requests_burst=2, in_flight_max=9)


async def put(ledger: Ledger, plan: str = "plain", **fields: Any) -> Account:
    reply = await ledger.accounts.set_account(AccountSet(account_id="hall", tenant_id="ten", plan=plan, **fields))
    assert isinstance(reply, Account), reply
    return reply


def limits(account: Account) -> tuple[int | None, int | None, int | None]:
    return account.balance.limit, account.balance.requests_limit, account.balance.in_flight_max


@pytest.fixture
async def plans(ledger: Ledger) -> Ledger:
    await ledger.plans.set_plan(_PLAN)
    await ledger.plans.set_plan(_OTHER)
    return ledger


async def use(ledger: Ledger, units: int) -> None:
    hold = reserve(units)
    assert isinstance(await ledger.submit(hold), Reserved)
    assert isinstance(await ledger.submit(settle(hold.hold_id, units)), Settled)


async def test_overrides_are_set_kept_and_cleared(plans: Ledger) -> None:
    assert limits(await put(plans)) == (100, 600, 5)
    own = Overrides(units=70, in_flight_max=None)
    assert limits(await put(plans, overrides=own)) == (70, 600, None)
    kept = await put(plans)
    assert (limits(kept), kept.overrides) == ((70, 600, None), own)
    assert limits(await put(plans, "grand")) == (70, 60, None)
    await plans.plans.set_plan(PlanSet(name="grand", units=9, requests_per_minute=7, in_flight_max=3))
    after = await plans.reader.account("hall")
    assert isinstance(after, Account)
    assert (limits(after), after.overrides) == ((70, 7, None), own)
    assert limits(await put(plans, overrides=Overrides())) == (100, 600, 5)


async def test_none_is_no_limit_and_zero_is_one(plans: Ledger) -> None:
    await put(plans, overrides=Overrides(units=0))
    refused = await plans.submit(reserve(1))
    assert isinstance(refused, Denied)
    assert refused.limit is Limit.UNITS
    await put(plans, overrides=Overrides(units=None, requests_per_minute=None))
    assert isinstance(await plans.submit(reserve(10**9)), Reserved)


async def test_an_account_of_another_tenant_stays_as_it_is(plans: Ledger) -> None:
    await put(plans, overrides=Overrides(units=70))
    reply = await plans.accounts.set_account(AccountSet(account_id="hall", tenant_id="other", plan="grand"))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.CONFLICT, "tenant_id")
    assert limits(await put(plans)) == (70, 600, 5)


async def test_what_is_used_stays_used_in_another_plan(plans: Ledger, sql: asyncpg.Connection) -> None:
    await put(plans)
    await use(plans, 60)
    open_hold = reserve(30)
    await plans.submit(open_hold)
    moved = await put(plans, "grand")
    assert (moved.balance.used, moved.balance.held, moved.balance.remaining) == (60, 30, 410)
    assert moved.balance.window is Window.DAY
    assert isinstance(await plans.submit(settle(open_hold.hold_id, 30)), Settled)
    assert await plans.used_and_held() == (90, 0, 0)
    await balances_are_true(sql, plans)


async def test_a_limit_below_what_is_in_use_lets_holds_end_and_nothing_more_in(
    plans: Ledger, sql: asyncpg.Connection
) -> None:
    await put(plans)
    kept, left = reserve(30), reserve(60)
    await plans.submit(kept)
    await plans.submit(left)
    lowered = await put(plans, overrides=Overrides(units=50))
    assert (lowered.balance.held, lowered.balance.remaining) == (90, 0)
    assert isinstance(await plans.submit(reserve(1)), Denied)
    assert isinstance(await plans.submit(settle(kept.hold_id, 30)), Settled)
    assert isinstance(await plans.submit(reserve(1)), Denied)
    await plans.submit(release(left.hold_id))
    assert isinstance(await plans.submit(reserve(21)), Denied)
    assert isinstance(await plans.submit(reserve(20)), Reserved)
    with pytest.raises(asyncpg.CheckViolationError, match="balances_no_overspend"):
        # The wall of P1 has come down with the use: it stands at the limit again.
        await sql.execute("UPDATE quota.balances SET held = held + 1")


@pytest.mark.parametrize("window", list(Window))
async def test_a_window_that_ended_before_the_plan_changed_counts_no_more(
    plans: Ledger, sql: asyncpg.Connection, window: Window
) -> None:
    """Nobody called between the end of the window and the change."""
    await put(plans)
    await use(plans, 60)
    await plans.submit(reserve(10))
    await sql.execute("UPDATE quota.balances SET crossed_percent = 50")
    await end_windows(sql)
    await plans.plans.set_plan(PlanSet(name="next", units=40, window=window))
    moved = await put(plans, "next")
    assert (moved.balance.used, moved.balance.held, moved.balance.remaining) == (0, 10, 30)
    assert await sql.fetchval("SELECT (units_ceiling, crossed_percent) = (40, 0) FROM quota.balances")
    assert (moved.balance.window_ends_at_ms is None) == (window is Window.NONE)
    await use(plans, 30)
    assert await plans.used_and_held() == (30, 10, 1)
    await balances_are_true(sql, plans)


async def test_a_faster_rate_holds_from_now_on(plans: Ledger) -> None:
    await plans.plans.set_plan(PlanSet(name="slow", units=None, requests_per_minute=1, requests_burst=10))
    await put(plans, "slow")
    for _ in range(10):
        assert isinstance(await plans.submit(reserve(1)), Reserved)
    assert isinstance(await plans.submit(reserve(1)), Denied)
    await plans.plans.set_plan(PlanSet(name="fast", units=None, requests_per_minute=600, requests_burst=10))
    await put(plans, "fast")

    async def let_in() -> bool:
        answer = await plans.submit(reserve(1))
        # One request of the new rate is waited for, not the ten minutes that the old rate still owed.
        assert isinstance(answer, Reserved) or (isinstance(answer, Denied) and (answer.retry_after_ms or 0) <= 100)
        return isinstance(answer, Reserved)

    await until(let_in)


async def test_suspended_accounts_take_nothing_and_their_holds_end(plans: Ledger, sql: asyncpg.Connection) -> None:
    await put(plans)
    hold = reserve(30)
    await plans.submit(hold)
    reply = await plans.accounts.suspend_account(AccountRef(account_id="hall"))
    assert isinstance(reply, Account)
    assert reply.suspended
    refused = await plans.submit(reserve(1))
    assert isinstance(refused, Denied)
    assert (refused.limit, refused.retry_after_ms) == (Limit.SUSPENDED, None)
    assert (await put(plans, "grand")).suspended, "another plan does not resume"
    assert isinstance(await plans.submit(settle(hold.hold_id, 30)), Settled)
    reply = await plans.accounts.resume_account(AccountRef(account_id="hall"))
    assert isinstance(reply, Account)
    assert not reply.suspended
    assert isinstance(await plans.submit(reserve(1)), Reserved)
    await balances_are_true(sql, plans)


async def test_nobody_can_be_suspended_who_has_no_account(plans: Ledger) -> None:
    reply = await plans.accounts.suspend_account(AccountRef(account_id="nobody"))
    assert isinstance(reply, Failure)
    assert reply.code is ErrorCode.NOT_FOUND


async def test_an_account_that_joins_a_plan_while_it_changes_gets_the_new_limits(
    quota_dsn: str, sql: asyncpg.Connection
) -> None:
    async with open_ledgers(quota_dsn, 2) as (one, other):
        await one.plans.set_plan(_PLAN)
        await one.open_account("first")
        await one.accounts.set_account(AccountSet(account_id="first", tenant_id="ten", plan="plain"))
        # Another transaction has the first account, so the change of the plan stands half done.
        blocker = await asyncpg.connect(quota_dsn)
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("SELECT FROM quota.balances WHERE account_id = 'first' FOR UPDATE")
        changed = asyncio.create_task(one.plans.set_plan(PlanSet(name="plain", units=7)))
        await until_waiting(sql, 1)
        joined = asyncio.create_task(put(other))
        await until(lambda: is_done_or_waits(joined, sql))
        await transaction.rollback()
        await blocker.close()
        await asyncio.gather(changed, joined)
        assert (await one.balance("first")).limit == 7
        assert (await one.balance("hall")).limit == 7


async def is_done_or_waits(task: asyncio.Task[Account], sql: asyncpg.Connection) -> bool:
    waiting: Any = await sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    )
    return task.done() or waiting > 1
