"""How fast the ledger is, beside its floors from the same run. `just bench-quota` prints a table in Markdown.

Floors: the bare set-based statements of a batch in pgbench, and a raw echo over nats-py. PostgreSQL runs with fsync on.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import nats
from nats.aio.msg import Msg

from odea_contracts.plans import PLAN_LIST, AccountSet, PlanList, PlanSet
from odea_contracts.quota import RESERVE, SETTLE, Outcome, Reserve, Reserved, Settle, Settled
from odea_local.embedded import embedded_nats, embedded_postgres
from odea_local.postgres import find_binaries
from odea_quota.account_store import AccountStore
from odea_quota.batcher import Batcher
from odea_quota.plan_store import PlanStore
from odea_quota.store import HoldStore
from odea_runtime import jetstream
from odea_runtime.background import running
from odea_runtime.bus import Bus, BusError
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Database
from odea_runtime.repeats import Repeats
from odea_runtime.service import GC_THRESHOLDS
from odea_runtime.settings import DatabaseSettings, Settings, load
from support.databases import Databases
from support.waiting import round_trip, until

ACCOUNT = "ten_hot"
CALLERS = 2000
BUS_CALLERS = 256
FLOOR_BATCH = 400

Ask = Callable[[Reserve | Settle], Awaitable[object]]
Rest = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Figure:
    """One line of the report."""

    what: str
    value: str
    goal: str = ""


def a_reserve() -> Reserve:
    """One unit on the hot account."""
    return Reserve(
        hold_id=new_uuid(),
        accounts=(ACCOUNT,),
        units=1,
        lease_ms=600_000,
        request_id="bench",
        tenant_id=ACCOUNT,
        key_id="key_bench",
    )


def a_settle(reserve: Reserve) -> Settle:
    """The whole of it."""
    return Settle(hold_id=reserve.hold_id, units=1, outcome=Outcome.COMPLETED, provider="bench")


async def per_second(count: int, callers: int, work: Callable[[], Awaitable[None]]) -> float:
    """How often `work` is done in a second by so many callers at a time."""
    each = count // callers

    async def caller() -> None:
        for _ in range(each):
            await work()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return each * callers / (time.perf_counter() - began)


async def reserve(ask: Ask) -> Reserve:
    """Hold one unit."""
    command = a_reserve()
    answer = await ask(command)
    assert isinstance(answer, Reserved), answer
    return command


async def pair(ask: Ask) -> None:
    """Hold one unit and settle it."""
    command = await reserve(ask)
    answer = await ask(a_settle(command))
    assert isinstance(answer, Settled), answer


async def measure(ask: Ask, rest: Rest, count: int, callers: int, goals: tuple[str, str]) -> list[Figure]:
    """The figures of one way to the ledger; `rest` waits until what a measurement left to do is done."""
    await rest()

    async def hold() -> None:
        await reserve(ask)

    async def charge() -> None:
        await pair(ask)

    await rest()
    lone_ms: list[float] = []
    for _ in range(500):
        began = time.perf_counter()
        await reserve(ask)
        lone_ms.append((time.perf_counter() - began) * 1000)
    lone_ms.sort()
    return [
        Figure("reserves/s", f"{await per_second(count, callers, hold):,.0f}", goals[0]),
        Figure("reserve+settle pairs/s", f"{await per_second(count // 2, callers, charge):,.0f}", goals[1]),
        Figure("lone reserve p50 / p99", f"{lone_ms[250]:.2f} / {lone_ms[495]:.2f} ms", "p99 < 5 ms"),
    ]


@asynccontextmanager
async def ledger(dsn: str) -> AsyncGenerator[Ask]:
    """The ledger with its store and batcher, without the bus."""
    database = Database(load(DatabaseSettings, {"ODEA_NATS_URL": "-", "ODEA_DATABASE_URL": dsn}), "odea_quota", "quota")
    await database.start()

    repeats = Repeats(database, keep_s=3600)
    await PlanStore(database, repeats).set_plan(
        PlanSet(name="bench", units=10**12, requests_per_minute=1_000_000, requests_burst=1_000_000)
    )
    await AccountStore(database, repeats).set_account(AccountSet(account_id=ACCOUNT, tenant_id=ACCOUNT, plan="bench"))
    batcher = Batcher(HoldStore(database).apply, batch_max=400, queue_max=10_000, lanes=4, slow_s=0.05)
    async with running(batcher.run()):
        yield batcher.submit
    await database.stop()


@asynccontextmanager
async def replica(dsn: str, nats_url: str) -> AsyncGenerator[Ask]:
    """One quota service, over the bus."""
    environ = {"ODEA_NATS_URL": nats_url, "ODEA_DATABASE_URL": dsn, "ODEA_OPS_ADDRESS": "127.0.0.1:0"}
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "odea_quota", "serve", env={**os.environ, **environ}
    )
    bus = Bus(load(Settings, {"ODEA_NATS_URL": nats_url, "ODEA_CALL_TIMEOUT_S": "10"}), "bench")
    try:
        await bus.start(lambda: jetstream.apply(bus))
        while True:
            try:
                await bus.call(PLAN_LIST, PlanList())
                break
            except BusError:
                await asyncio.sleep(0.05)

        async def ask(command: Reserve | Settle) -> object:
            return await (bus.call(RESERVE, command) if isinstance(command, Reserve) else bus.call(SETTLE, command))

        yield ask
    finally:
        await bus.stop()
        service.terminate()
        await asyncio.wait_for(service.wait(), 30)


async def no_rest() -> None:
    """Without the bus nobody relays events."""


async def relayed(dsn: str) -> None:
    """Wait until the replica has relayed every event."""
    connection = await asyncpg.connect(dsn)

    async def empty() -> bool:
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM quota.outbox)")

    await until(empty, within_s=300)
    await connection.close()


async def echo_floor(nats_url: str, count: int) -> Figure:
    """Requests a second that raw nats-py answers, both ends in two connections of one process."""
    server, client = await nats.connect(nats_url), await nats.connect(nats_url)

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await server.subscribe("bench.echo", cb=answer)
    await round_trip(server)

    async def ask() -> None:
        await client.request("bench.echo", b"x" * 300, timeout=10)

    rate = await per_second(count, BUS_CALLERS, ask)
    await client.close()
    await server.close()
    return Figure("floor: raw nats-py echo/s", f"{rate:,.0f}")


def statements_floor(admin_dsn: str, database: str, folder: Path) -> Figure:
    """Holds a second that the bare statements of a batch write, one commit for each batch, in pgbench."""
    script = folder / "floor.sql"
    script.write_text(
        f"BEGIN;\n"
        f"SELECT * FROM quota.balances WHERE account_id = '{ACCOUNT}' FOR UPDATE;\n"
        f"UPDATE quota.balances SET held = held + {FLOOR_BATCH}, in_flight = in_flight + {FLOOR_BATCH}"
        f" WHERE account_id = '{ACCOUNT}';\n"
        f"INSERT INTO quota.holds"
        f" (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)"
        f" SELECT gen_random_uuid(), ARRAY['{ACCOUNT}'], 1, now(), now(), 'r', 't', 'k'"
        f" FROM generate_series(1, {FLOOR_BATCH});\n"
        f"COMMIT;\n"
    )
    parts = urlsplit(admin_dsn)
    environ = {**os.environ, "PGPASSWORD": parts.password or "", "PGHOST": parse_qs(parts.query)["host"][0]}
    binary = find_binaries() / "pgbench"
    seconds = 5
    arguments = ["-n", "-c", "1", "-T", str(seconds), "-f", str(script), "-U", parts.username or "", database]
    done = subprocess.run([binary, *arguments], env=environ, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return Figure(
        f"floor: bare statements, {FLOOR_BATCH} a commit, holds/s", f"{float(line.split()[2]) * FLOOR_BATCH:,.0f}"
    )


async def endurance(ask: Ask, minutes: int) -> Figure:
    """Pairs a second in the last minute beside the first, on one account."""
    rates: list[float] = []

    async def charge() -> None:
        await pair(ask)

    for _ in range(minutes):
        until, done = time.perf_counter() + 60, 0
        began = time.perf_counter()
        while time.perf_counter() < until:
            await per_second(4000, CALLERS, charge)
            done += 4000
        rates.append(done / (time.perf_counter() - began))
    value = f"{rates[0]:,.0f} → {rates[-1]:,.0f} ({rates[-1] / rates[0]:.0%})"
    return Figure(f"pairs/s, first → last of {minutes} minutes", value, "≥ 90 %")


async def run(folder: Path, count: int, minutes: int) -> list[Figure]:
    """All figures."""
    with embedded_postgres(folder / "postgres") as postgres, embedded_nats(folder / "nats") as broker:
        databases = Databases(postgres.dsn)
        dsn = await databases.create("quota")
        figures = [Figure("**Ledger, store and batcher**", "")]
        async with ledger(dsn) as ask:
            figures += await measure(ask, no_rest, count, CALLERS, ("≥ 20,000", "≥ 10,000"))
            if minutes:
                figures.append(await endurance(ask, minutes))
        place = len(figures)
        figures.append(Figure("**Over NATS, one replica**", ""))
        async with replica(dsn, broker.url) as ask:
            figures += await measure(ask, partial(relayed, dsn), count // 4, BUS_CALLERS, ("≥ 5,000", "≥ 2,500"))
        figures.append(await echo_floor(broker.url, count // 2))
        # Last, for it leaves half a million holds behind that a replica would begin to end.
        figures.insert(place, statements_floor(postgres.dsn, urlsplit(dsn).path[1:], folder))
    return figures


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60_000, help="reserves in each measurement")
    parser.add_argument("--minutes", type=int, default=0, help="also compare the first and last of so many minutes")
    arguments = parser.parse_args()
    # As every service does.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(Path(folder), arguments.count, arguments.minutes))
    print("| What | Measured | Goal |\n|---|---|---|")  # noqa: T201 - the report is the output
    for figure in figures:
        print(f"| {figure.what} | {figure.value} | {figure.goal} |")  # noqa: T201 - likewise


if __name__ == "__main__":
    main()
