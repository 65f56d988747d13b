"""Plans and accounts: what is used stays used, new limits hold from now on, and nobody else's account is touched."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from msgspec.structs import asdict

from integration.quota.harness import Ledger, balances_are_true, reserve, settle, together
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.plans import Account, AccountRef, AccountSet, Plan, PlanSet, TopUp
from odea_contracts.quota import Denied, Limit, Reserved, Settled, Window
from odea_quota.plan_store import UnknownPlanError
from odea_runtime.ids import new_uuid

_YESTERDAY = """
UPDATE quota.balances SET window_started_at = date_trunc('day', now(), 'UTC') - interval '1 day',
    window_ends_at = date_trunc('day', now(), 'UTC')
"""


async def _spend(ledger: Ledger, units: int, account_id: str = "hall") -> None:
    held = await ledger.submit(reserve(units, account_id))
    assert isinstance(held, Reserved), held
    assert isinstance(await ledger.submit(settle(held.hold_id, units)), Settled)


async def _refused(ledger: Ledger, units: int) -> Limit:
    answer = await ledger.submit(reserve(units))
    assert isinstance(answer, Denied), answer
    return answer.limit


def _code(reply: object) -> tuple[ErrorCode, str | None]:
    assert isinstance(reply, Failure), reply
    return reply.code, reply.param


async def test_a_plan_reads_back_as_it_was_set(ledger: Ledger) -> None:
    plan = PlanSet(
        name="big one",
        units=10**12,
        window=Window.DAY,
        requests_per_minute=7,
        requests_burst=3,
        in_flight_max=2,
        text_characters_max=500,
        models=("plain",),
        voices=(),
        soft_limits_percent=(80, 100),
    )
    bare = PlanSet(name="bare", units=None, window=Window.NONE)
    assert await ledger.plans.set_plan(plan) == Plan(**asdict(plan.limits()))
    await ledger.plans.set_plan(bare)
    assert await ledger.plans.get_plan("big one") == Plan(**asdict(plan.limits()))
    listed = await ledger.plans.list_plans()
    assert [one.name for one in listed] == ["bare", "big one", "default"]
    assert listed[0] == Plan(**asdict(bare.limits()))
    assert _code(await ledger.plans.get_plan("none such")) == (ErrorCode.NOT_FOUND, "name")


async def test_an_account_opens_in_the_present_window_of_its_plan(ledger: Ledger) -> None:
    await ledger.open_account("day", window=Window.DAY)
    await ledger.open_account("month", window=Window.MONTH)
    await ledger.open_account("endless", window=Window.NONE)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow = midnight + timedelta(days=1)
    next_month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    ends = [(await ledger.balance(name)).window_ends_at_ms for name in ("day", "month", "endless")]
    assert ends == [int(tomorrow.timestamp() * 1000), int(next_month.timestamp() * 1000), None]


async def test_a_limit_below_what_is_used_refuses_more_and_lets_open_holds_end(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account(units=100)
    await _spend(ledger, 40)
    held = await ledger.submit(reserve(30))
    assert isinstance(held, Reserved)
    await ledger.plans.set_plan(PlanSet(name="hall", units=50))
    balance = await ledger.balance()
    assert (balance.limit, balance.used, balance.held, balance.remaining) == (50, 40, 30, 0)
    assert await _refused(ledger, 1) is Limit.UNITS
    assert isinstance(await ledger.submit(settle(held.hold_id, 30)), Settled)
    assert await ledger.used_and_held() == (70, 0, 0)
    # The wall has come down behind what was in use: it stands at 70, and later at the limit.
    with pytest.raises(asyncpg.CheckViolationError, match="balances_no_overspend"):
        await sql.execute("UPDATE quota.balances SET used = 71")
    await ledger.plans.set_plan(PlanSet(name="hall", units=80))
    assert await _refused(ledger, 11) is Limit.UNITS
    await _spend(ledger, 10)
    assert (await ledger.balance()).remaining == 0


async def test_the_wall_returns_to_the_limit_with_the_next_window(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """P1 a second time, also after a limit was lowered below what was in use."""
    await ledger.open_account(units=100, window=Window.DAY)
    await _spend(ledger, 90)
    await ledger.plans.set_plan(PlanSet(name="hall", units=50, window=Window.DAY))
    await sql.execute(_YESTERDAY)
    await _spend(ledger, 10)
    with pytest.raises(asyncpg.CheckViolationError, match="balances_no_overspend"):
        await sql.execute("UPDATE quota.balances SET used = 51")


async def test_windows_roll_when_somebody_calls_and_for_readers_at_once(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await ledger.open_account(units=100, window=Window.DAY)
    await _spend(ledger, 90)
    held = await ledger.submit(reserve(10))
    assert isinstance(held, Reserved)
    await sql.execute(_YESTERDAY)
    await sql.execute("ALTER TABLE quota.resolutions DISABLE TRIGGER USER")
    await sql.execute("UPDATE quota.resolutions SET resolved_at = resolved_at - interval '1 day'")
    await sql.execute("ALTER TABLE quota.entries DISABLE TRIGGER USER")
    await sql.execute("UPDATE quota.entries SET at = at - interval '1 day'")
    await sql.execute("UPDATE quota.usage_days SET day = day - 1")
    assert await ledger.used_and_held() == (0, 10, 1)
    assert await _refused(ledger, 91) is Limit.UNITS
    await _spend(ledger, 90)
    assert isinstance(await ledger.submit(settle(held.hold_id, 10)), Settled)
    assert await ledger.used_and_held() == (100, 0, 0)
    await balances_are_true(sql, ledger)


async def test_a_window_of_another_kind_goes_on_with_what_is_used(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=100, window=Window.MONTH)
    await _spend(ledger, 90)
    for window in (Window.DAY, Window.NONE, Window.MONTH):
        await ledger.plans.set_plan(PlanSet(name="hall", units=100, window=window))
        balance = await ledger.balance()
        assert (balance.window, balance.used, balance.remaining) == (window, 90, 10)
        assert (balance.window_ends_at_ms is None) is (window is Window.NONE)
        await balances_are_true(sql, ledger)


async def test_moving_an_account_keeps_its_use_and_takes_the_other_plan_s_limits(ledger: Ledger) -> None:
    await ledger.open_account(units=100)
    await ledger.plans.set_plan(PlanSet(name="small", units=60, window=Window.DAY, in_flight_max=3))
    await _spend(ledger, 50)
    moved = await ledger.accounts.set_account(AccountSet(account_id="hall", tenant_id="ten", plan="small"))
    assert isinstance(moved, Account)
    assert (moved.plan, moved.balance.limit, moved.balance.used, moved.balance.remaining) == ("small", 60, 50, 10)
    assert (moved.balance.window, moved.balance.in_flight_max) == (Window.DAY, 3)


async def test_another_tenant_s_account_is_neither_shown_nor_moved(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account(units=100)
    before = await sql.fetch("SELECT * FROM quota.accounts JOIN quota.balances USING (account_id)")
    reply = await ledger.accounts.set_account(AccountSet(account_id="hall", tenant_id="thief", plan="default"))
    assert _code(reply) == (ErrorCode.CONFLICT, "tenant_id")
    assert await sql.fetch("SELECT * FROM quota.accounts JOIN quota.balances USING (account_id)") == before


async def test_an_unknown_plan_or_account_is_named_and_changes_nothing(ledger: Ledger, sql: asyncpg.Connection) -> None:
    reply = await ledger.accounts.set_account(AccountSet(account_id="new", tenant_id="ten", plan="none such"))
    assert _code(reply) == (ErrorCode.NOT_FOUND, "plan")
    with pytest.raises(UnknownPlanError):
        await ledger.accounts.open_account("new", "ten", "none such")
    assert await sql.fetchval("SELECT count(*) FROM quota.accounts") == 0
    assert _code(await ledger.reader.account("new")) == (ErrorCode.NOT_FOUND, "account_id")
    assert _code(await ledger.accounts.suspend_account(AccountRef(account_id="new"))) == (
        ErrorCode.NOT_FOUND,
        "account_id",
    )
    assert await ledger.reader.balances(("new", "hall")) == ()
    lost = TopUp(topup_id=new_uuid(), account_id="new", units=1, expires_at_ms=2**42)
    assert _code(await ledger.accounts.top_up(lost)) == (ErrorCode.NOT_FOUND, "account_id")


async def test_opening_twice_keeps_what_there_is(ledger: Ledger) -> None:
    """The event that opens accounts may come twice, and late."""
    await ledger.open_account(units=100)
    await _spend(ledger, 50)
    await together(*[lambda: ledger.accounts.open_account("hall", "ten", "default")] * 3)
    account = await ledger.reader.account("hall")
    assert isinstance(account, Account)
    assert (account.plan, account.balance.used) == ("hall", 50)


async def test_a_plan_that_changes_under_load_never_leaves_an_account_over(
    ledgers: list[Ledger], sql: asyncpg.Connection
) -> None:
    """P1: the plan is lowered and raised while 40 callers reserve."""
    await ledgers[0].open_account(units=100)

    async def change() -> None:
        for units in (60, 100, 30, 100):
            await ledgers[1].plans.set_plan(PlanSet(name="hall", units=units))

    async def take() -> None:
        answer = await ledgers[2].submit(reserve(4))
        assert isinstance(answer, Reserved | Denied), answer

    await together(change, *[take] * 40)
    held = (await ledgers[0].balance()).held
    assert held <= 100
    await balances_are_true(sql, ledgers[0])
