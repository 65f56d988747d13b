"""Quota replicas inside the test's own loop, on a real database, and what their tests do to them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from odea_contracts.plans import ACCOUNT_SET, PLAN_SET, Account, AccountSet, Plan, PlanSet
from odea_contracts.quota import (
    USAGE,
    Balance,
    Extend,
    Outcome,
    Release,
    Reserve,
    Settle,
    Usage,
    UsageReport,
    Window,
)
from odea_contracts.writeoffs import WriteOff
from odea_quota.account_store import AccountStore
from odea_quota.audit import find_differences
from odea_quota.batcher import Batcher
from odea_quota.carryovers import CarryOvers
from odea_quota.ledger import Answer, Command
from odea_quota.plan_store import PlanStore
from odea_quota.reader import Reader
from odea_quota.store import HoldStore
from odea_quota.sweeper import Sweeper
from odea_runtime.audit import AuditLog
from odea_runtime.background import running
from odea_runtime.bus import Bus, BusError
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Database
from odea_runtime.repeats import Repeats
from odea_runtime.settings import DatabaseSettings, Settings, load
from support.waiting import until

T = TypeVar("T")

# What open holds and the record of ended ones say of every account, added up without a word from the service.
_RECOMPUTED = """
SELECT b.account_id, b.used, b.held, b.in_flight, b.units_limit,
    (SELECT coalesce(sum(r.units_settled), 0) FROM quota.resolutions AS r
        WHERE b.account_id = ANY(r.account_ids) AND r.resolved_at >= b.window_started_at)
    - (SELECT coalesce(sum(v.units), 0) FROM quota.reversals AS v
        WHERE b.account_id = ANY(v.account_ids) AND v.charged_at >= b.window_started_at)
    + (SELECT coalesce(sum(c.units), 0) FROM quota.carryovers AS c
        WHERE b.account_id = c.account_id AND c.carried_at >= b.window_started_at) AS true_used,
    (SELECT coalesce(sum(h.units), 0) FROM quota.holds AS h WHERE b.account_id = ANY(h.account_ids)) AS true_held,
    (SELECT count(*) FROM quota.holds AS h WHERE b.account_id = ANY(h.account_ids)) AS true_in_flight
FROM quota.balances AS b
"""


_WAITING = """
SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND datname = current_database()
"""


class Ledger:
    """The parts of one quota replica, without the bus."""

    def __init__(self, database: Database, batcher: Batcher) -> None:
        self.database = database
        self.store = HoldStore(database)
        repeats = Repeats(database, keep_s=3600)
        self.plans = PlanStore(database, repeats)
        self.accounts = AccountStore(database, repeats)
        self.carryovers = CarryOvers(database, repeats)
        self.reader = Reader(database)
        self.audit = AuditLog(database)
        self.batcher = batcher
        self.submit = batcher.submit

    async def open_account(self, account_id: str = "hall", *, units: int | None = 100, **plan: Any) -> None:
        """An account of the tenant `ten` under a plan of its own, which has the account's name."""
        plan.setdefault("window", Window.MONTH)
        await self.plans.set_plan(PlanSet(name=account_id, units=units, **plan))
        reply = await self.accounts.set_account(AccountSet(account_id=account_id, tenant_id="ten", plan=account_id))
        assert isinstance(reply, Account), reply

    async def balance(self, account_id: str = "hall") -> Balance:
        """Where an account stands."""
        (balance,) = await self.reader.balances((account_id,))
        return balance

    async def used_and_held(self, account_id: str = "hall") -> tuple[int, int, int]:
        """Used, held, in flight."""
        balance = await self.balance(account_id)
        return balance.used, balance.held, balance.in_flight


@asynccontextmanager
async def open_ledger(
    dsn: str, *, lanes: int = 1, timeout_s: float = 10.0, sweep_s: float | None = None
) -> AsyncGenerator[Ledger]:
    """One replica on the database `dsn`, with a sweeper if it is told how often to sweep.

    Its patience with the database is long, because a busy machine is no fault of the service.
    """
    environ = {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": dsn, "ODEA_DATABASE_TIMEOUT_S": str(timeout_s)}
    database = Database(load(DatabaseSettings, environ), "odea_quota", "quota")
    async with AsyncExitStack() as stack:
        await database.start()
        stack.push_async_callback(database.stop)
        batcher = Batcher(HoldStore(database).apply, batch_max=400, queue_max=5000, lanes=lanes, slow_s=0.05)
        await stack.enter_async_context(running(batcher.run()))
        ledger = Ledger(database, batcher)
        if sweep_s is not None:
            await stack.enter_async_context(running(Sweeper(ledger.store, batcher, every_s=sweep_s).run()))
        yield ledger


@asynccontextmanager
async def open_ledgers(dsn: str, count: int) -> AsyncGenerator[list[Ledger]]:
    """Several replicas on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_ledger(dsn)) for _ in range(count)]


def reserve(
    units: int = 50,
    *accounts: str,
    hold_id: str | None = None,
    lease_ms: int = 60_000,
    request_id: str = "req",
    key_id: str = "key",
) -> Reserve:
    """Hold `units` under a new id, by default on `hall`."""
    return Reserve(
        hold_id=hold_id or new_uuid(),
        accounts=accounts or ("hall",),
        units=units,
        lease_ms=lease_ms,
        request_id=request_id,
        tenant_id="ten",
        key_id=key_id,
    )


def settle(hold_id: str, units: int = 30, outcome: Outcome = Outcome.COMPLETED) -> Settle:
    """Charge a hold for work of the provider `piper`."""
    return Settle(
        hold_id=hold_id,
        units=units,
        outcome=outcome,
        provider="piper",
        model="plain",
        voice="vera",
        provider_units=units + 1,
    )


def write_off(hold_id: str) -> WriteOff:
    """Charge nothing for a hold, whatever became of it."""
    return WriteOff(hold_id=hold_id, provider="piper", model="plain", voice="vera", provider_units=31)


def release(hold_id: str) -> Release:
    """Give a hold back."""
    return Release(hold_id=hold_id)


def extend(hold_id: str, lease_ms: int = 120_000, units: int | None = None) -> Extend:
    """Let a hold's lease last longer, and hold at least so many units."""
    return Extend(hold_id=hold_id, lease_ms=lease_ms, units=units)


@asynccontextmanager
async def calling(nats_url: str, *, timeout_s: float = 10.0) -> AsyncGenerator[Bus]:
    """A caller on a connection of its own. Whether anybody answers is another matter.

    Its patience is long: a busy machine is no fault of the service. Where time is promised, the test measures it.
    """
    bus = Bus(load(Settings, {"ODEA_NATS_URL": nats_url, "ODEA_CALL_TIMEOUT_S": str(timeout_s)}), "tests")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def is_served(bus: Bus) -> bool:
    """Whether a service answers."""
    try:
        return isinstance(await bus.call(USAGE, Usage(accounts=("hall",)), timeout_s=1), UsageReport)
    except BusError:
        return False


async def open_hall(bus: Bus, *, units: int | None = 10**6) -> None:
    """The account `hall` of the tenant `ten`, by way of the bus, as soon as somebody serves it."""
    await until(lambda: is_served(bus), within_s=30)
    assert isinstance(await bus.call(PLAN_SET, PlanSet(name="small", units=units)), Plan)
    command = AccountSet(account_id="hall", tenant_id="ten", plan="small")
    assert isinstance(await bus.call(ACCOUNT_SET, command), Account)


async def together(*starts: Callable[[], Awaitable[T]]) -> list[T]:
    """Hold all at a gate, release them at once, and wait for each."""
    gate = asyncio.Event()

    async def pass_gate(start: Callable[[], Awaitable[T]]) -> T:
        await gate.wait()
        return await start()

    tasks = [asyncio.create_task(pass_gate(start)) for start in starts]
    await asyncio.sleep(0)
    gate.set()
    return await asyncio.gather(*tasks)


async def submit_together(ledgers: list[Ledger], commands: list[Command]) -> list[Answer]:
    """Every command from a caller of its own, spread over the replicas, all at once."""

    def start(number: int, command: Command) -> Callable[[], Awaitable[Answer]]:
        return lambda: ledgers[number % len(ledgers)].submit(command)

    return await together(*(start(number, command) for number, command in enumerate(commands)))


async def overdue(sql: asyncpg.Connection, *hold_ids: str) -> None:
    """Let the leases of holds end a second ago, of all if none is named."""
    await sql.execute(
        "UPDATE quota.holds SET lease_ends_at = clock_timestamp() - interval '1 s' WHERE hold_id = ANY($1) OR $2",
        hold_ids,
        not hold_ids,
    )


async def end_windows(sql: asyncpg.Connection) -> None:
    """Let the windows of all accounts be over. By more than the ledger rounds: it counts in milliseconds."""
    await sql.execute("UPDATE quota.balances SET window_ends_at = clock_timestamp() - interval '1 ms'")


async def until_waiting(sql: asyncpg.Connection, count: int) -> None:
    """Return when so many sessions of this database wait for locks of others."""

    async def waiting() -> bool:
        return await sql.fetchval(_WAITING) == count

    await until(waiting)


async def balances_are_true(sql: asyncpg.Connection, ledger: Ledger) -> None:
    """Every stored balance is what holds and records add up to, and the service's own audit agrees."""
    rows = await sql.fetch(_RECOMPUTED)
    assert rows
    for row in rows:
        assert (row["used"], row["held"], row["in_flight"]) == (
            row["true_used"],
            row["true_held"],
            row["true_in_flight"],
        ), row
        assert row["units_limit"] is None or row["used"] + row["held"] <= row["units_limit"], row
    assert await find_differences(ledger.database) == []
