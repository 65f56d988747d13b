"""The race (P1, P2, P3): replicas die at any line while callers race for the last units, and the books still balance.

`ODEA_RACE_OPERATIONS` says how many operations there are, `ODEA_RACE_SEED` which ones.
"""

import asyncio
import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from integration.quota.harness import Ledger
from integration.quota.race import ACCOUNTS, KEYS, LEASE_MS_MAX, TENANTS, Callers, Command, Operator, Record, ask
from integration.quota.replicas import Replica, caller_settings, environ_of, replicas
from odea_contracts import quota
from odea_contracts.quota import Extend, Release, Settle
from odea_quota.audit import find_differences
from odea_runtime.bus import Bus
from support.waiting import until

OPERATIONS: Final = int(os.environ.get("ODEA_RACE_OPERATIONS", "4000"))
SEED: Final = int(os.environ.get("ODEA_RACE_SEED", "20260310"))
REPLICAS: Final = 4
CALLERS: Final = 64
BUSES: Final = 4
KILLS_MIN: Final = 4
LATECOMERS: Final = 20
OPERATIONS_A_KILL: Final = 1_500
GRACE_S: Final = 10.0

_SAMPLE = """
SELECT b.account_id, b.units_limit, b.used, b.held, b.in_flight,
    (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - lease_ends_at)), 0)::float8
        FROM quota.holds) AS overdue_s,
    (SELECT count(*) FROM quota.topups AS t WHERE t.account_id = b.account_id
        AND (t.units_left < 0 OR t.units_held < 0 OR t.units_left + t.units_held > t.units)) AS bad_topups
FROM quota.balances AS b
"""
_TRUTH = """
SELECT b.account_id, b.units_limit + (SELECT coalesce(sum(units), 0) FROM quota.topups AS t
        WHERE t.account_id = b.account_id) AS granted,
    (SELECT coalesce(sum(units), 0) FROM quota.holds WHERE b.account_id = ANY (account_ids)) AS held,
    (SELECT coalesce(sum(units_settled), 0) FROM quota.resolutions WHERE b.account_id = ANY (account_ids)) AS settled
FROM quota.balances AS b
"""


@pytest.mark.timeout(120 + OPERATIONS / 50)
async def test_no_account_is_over_and_every_answer_is_true(
    ledger: Ledger, quota_dsn: str, nats_url: str, tmp_path: Path
) -> None:
    """P1 at every sampled instant and at the end, P2 for every answer, P3 for every hold."""
    await open_accounts(ledger)
    record = Record(OPERATIONS)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(replicas(REPLICAS, environ_of(nats_url, quota_dsn), tmp_path))
        buses = [await stack.enter_async_context(bus_to(nats_url)) for _ in range(BUSES)]
        # Two, since what is sampled last takes longer than the callers.
        database, sampled_over = [await asyncpg.connect(quota_dsn) for _ in range(2)]
        stack.push_async_callback(database.close)
        stack.push_async_callback(sampled_over.close)
        operator = Operator(buses[0], record, SEED)
        kills = asyncio.create_task(kill_at_random(running, record))
        samples = asyncio.create_task(sample(sampled_over, record))
        tops = asyncio.create_task(record.every(50, operator.look))
        began = time.monotonic()
        await Callers(buses, record, SEED).run(CALLERS)
        lasted_s = time.monotonic() - began
        # Everybody has gone; what they left open ends by itself.
        await until(lambda: nothing_is_open(database, record), within_s=LEASE_MS_MAX / 1000 + GRACE_S)
        await come_back_late(database, buses[0], record)
        killed, sampled, _ = await asyncio.gather(kills, samples, tops)
        figures = f"{lasted_s:.1f} s, {killed} kills, {sampled} samples, {len(record.unclear)} unclear"
        logging.getLogger(__name__).info("%s, %s, %s", figures, record.failures, record.kinds())
        assert not record.over
        assert set(record.failures) <= {"quota_unavailable", "overloaded"}
        await answers_are_true(database, record)
        assert await find_differences(ledger.database) == []
    kinds = record.kinds()
    for kind in ("Reserved", "Settled", "SettledBefore", "Released", "Extended", "Expired", "Denied units"):
        assert kinds[kind] > 0, f"the race was too tame: {kinds}"
    assert killed >= KILLS_MIN
    assert operator.given


async def open_accounts(ledger: Ledger) -> None:
    for tenant, plan in TENANTS.items():
        await ledger.plans.set_plan(plan)
        await ledger.accounts.open_account(tenant, tenant, plan.name)
    for key, (tenant, plan) in KEYS.items():
        await ledger.plans.set_plan(plan)
        await ledger.accounts.open_account(key, tenant, plan.name)


@asynccontextmanager
async def bus_to(nats_url: str) -> AsyncGenerator[Bus]:
    bus = Bus(caller_settings(nats_url, timeout_s=1.5), "tests")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def kill_at_random(running: list[Replica], record: Record) -> int:
    """Kill replicas while the callers are at it; two go on at least."""
    rng = random.Random(SEED)
    kills = max(KILLS_MIN, OPERATIONS // OPERATIONS_A_KILL)
    async with asyncio.TaskGroup() as restarts:
        for moment in sorted(rng.randint(OPERATIONS // 20, OPERATIONS * 9 // 10) for _ in range(kills)):
            await until(lambda moment=moment: record.started >= moment, within_s=600)
            await until(lambda: sum(replica.ready for replica in running) > 2, within_s=60)
            victim = rng.choice([replica for replica in running if replica.ready])
            await victim.kill()
            restarts.create_task(victim.start())
    return kills


async def sample(database: asyncpg.Connection, record: Record) -> int:
    """Look at the rows all the time, and now and then recompute from holds and records what they should say."""
    taken = 0

    async def look() -> None:
        nonlocal taken
        await see_balances(database, record)
        if taken % max(10, OPERATIONS // 400) == 0:
            await see_truth(database, record)
        taken += 1

    await record.every(10, look)
    await see_truth(database, record)
    return taken


async def see_balances(database: asyncpg.Connection, record: Record) -> None:
    for row in await database.fetch(_SAMPLE):
        over = row["used"] + row["held"] > row["units_limit"] or min(row["used"], row["held"], row["in_flight"]) < 0
        if over or row["bad_topups"] or row["overdue_s"] > GRACE_S:
            record.over.append(str(dict(row)))


async def see_truth(database: asyncpg.Connection, record: Record) -> None:
    rows = await database.fetch(_TRUTH)
    assert {row["account_id"] for row in rows} == set(ACCOUNTS)
    record.over += [str(dict(row)) for row in rows if row["settled"] + row["held"] > row["granted"]]


async def nothing_is_open(database: asyncpg.Connection, record: Record) -> bool:
    await see_balances(database, record)
    return await database.fetchval("SELECT count(*) FROM quota.holds") == 0


async def come_back_late(database: asyncpg.Connection, bus: Bus, record: Record) -> None:
    """Ask for more of holds that nobody ended in time."""
    rows = await database.fetch(
        "SELECT hold_id::text FROM quota.resolutions WHERE kind = 'expired' ORDER BY resolved_at DESC LIMIT $1",
        LATECOMERS,
    )
    for row in rows:
        await ask(bus, record, Extend(hold_id=row["hold_id"], lease_ms=LEASE_MS_MAX))
        await ask(bus, record, Release(hold_id=row["hold_id"]))


async def answers_are_true(database: asyncpg.Connection, record: Record) -> None:
    """Every answer agrees with how its hold ended on record."""
    ends: dict[str, dict[str, asyncpg.Record]] = defaultdict(dict)
    for row in await database.fetch("SELECT *, hold_id::text AS id FROM quota.resolutions"):
        assert row["kind"] not in ends[row["id"]], "a hold ended in the same way twice"
        ends[row["id"]][row["kind"]] = row
    granted = {command.hold_id for command, answer in record.answers if not isinstance(answer, quota.Denied)}
    granted_perhaps = granted | record.unclear
    for command, answer in record.answers:
        hold_ends = ends.get(command.hold_id, {})
        if isinstance(answer, quota.Denied):
            took_nothing = command.hold_id in granted_perhaps or not hold_ends
            assert took_nothing, (command, answer, hold_ends)
        else:
            assert is_true(command, answer, hold_ends), (command, answer, hold_ends)


def is_true(command: Command, answer: Any, ends: dict[str, asyncpg.Record]) -> bool:
    """Whether what a caller was told about a hold that it knew is what the record says in the end."""
    match answer:
        case quota.Settled() | quota.SettledBefore():
            row = ends["settled"]
            same = row["units_settled"] == answer.units
            late = getattr(answer, "late", row["late"]) == row["late"] == ("expired" in ends)
            own = not isinstance(answer, quota.Settled) or (
                isinstance(command, Settle) and command.units == answer.units
            )
            return same and late and own and "released" not in ends
        case quota.Released() | quota.ReleasedBefore():
            return set(ends) == {"released"}
        case quota.Expired():
            return "expired" in ends and "released" not in ends
        case quota.Reserved() | quota.Extended():
            ended = ends.get("expired")
            return bool(ends) and (ended is None or ended["resolved_at"].timestamp() * 1000 >= answer.expires_at_ms)
        case quota.ExceedsHold():
            return bool(ends) and all(row["units_held"] == answer.held for row in ends.values())
        case _:
            return False
