"""What Odea says was charged, read from four places that must agree: records, entries, balances, and events.

The events are read from JetStream by a consumer of the bench's own, since it is they that a billing system would see.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bench.house import House
from odea_contracts.quota_events import HoldEvent
from odea_contracts.subjects import INSTALLER, QUOTA_SETTLED, QUOTA_WRITTEN_OFF, STREAM_EVENTS, inbox_prefix
from odea_contracts.writeoffs import WriteOffEvent
from odea_local.postgres import PORT
from odea_runtime.bus import Bus
from odea_runtime.ids import new_id
from odea_runtime.settings import Settings, load

SETTLED_WITHIN_S: Final = 45.0
"""Leases of 15 s and the sweeper's pause, with room for a restart."""
LOOK_S: Final = 0.1
_AUDIT_WITHIN_S: Final = 120.0
_EVENTS_WITHIN_S: Final = 60.0

Charges = dict[str, list[int]]
"""Units of every charge, by request id. More than one means charged twice."""


@dataclass(kw_only=True)
class Books:
    """What the ledger has, by request id where nothing else is said.

    Attributes:
        charges: from the records of settled holds.
        events: the same from the events in JetStream, repeats of the same event left out.
        entries: from the double entries.
        written_off: requests for which a write-off, a release or an expiry is on record, with what the provider billed
            as far as it is known.
        lost_attempts: requests whose provider billed more than was charged, by the request log.
        used: units used, by account.
        open_holds: how many there are.
        audit: what the ledger's own audit found; empty if nothing.
    """

    charges: Charges
    events: Charges
    entries: dict[str, int]
    written_off: dict[str, int]
    lost_attempts: dict[str, int]
    used: dict[str, int]
    open_holds: int
    audit: str


@dataclass(kw_only=True)
class Watch:
    """What a look at the balances, many times a second, found.

    Attributes:
        looks: how many there were.
        over: accounts that had used and held more than their limit, with by how much at most.
    """

    looks: int = 0
    over: dict[str, int] = field(default_factory=dict[str, int])


async def read_books(house: House) -> Books:
    """Wait until all holds have ended and all events are out, and read everything.

    Raises:
        TimeoutError: that took too long; holds leak, or the relay stands.
    """
    connection = await asyncpg.connect(house.admin_dsn, port=PORT)
    try:
        open_holds = await _settle_down(connection)
        written_off = await connection.fetch(
            "SELECT request_id, sum(coalesce(provider_units, 0))::bigint AS units FROM quota.resolutions"
            " WHERE kind <> 'settled' OR outcome = 'written_off'"
            " OR hold_id IN (SELECT hold_id FROM quota.reversals) GROUP BY 1"
        )
        lost = await connection.fetch(
            "SELECT request_id, sum(provider_units - units_settled)::bigint AS units FROM synth.requests"
            " WHERE provider_units > units_settled GROUP BY 1"
        )
        charges: Charges = defaultdict(list)
        for row in await connection.fetch(
            "SELECT request_id, units_settled FROM quota.resolutions WHERE units_settled > 0"
            " AND hold_id NOT IN (SELECT hold_id FROM quota.reversals)"
        ):
            charges[row["request_id"]].append(row["units_settled"])
        entries = await connection.fetch(
            "SELECT r.request_id,"
            " sum(CASE WHEN e.credit LIKE 'provider:%' THEN e.units ELSE -e.units END)::bigint AS units"
            " FROM quota.entries AS e JOIN"
            " (SELECT DISTINCT hold_id, request_id FROM quota.resolutions) AS r ON r.hold_id = e.cause_id"
            " WHERE e.credit LIKE 'provider:%' OR e.debit LIKE 'provider:%' GROUP BY 1"
            " HAVING sum(CASE WHEN e.credit LIKE 'provider:%' THEN e.units ELSE -e.units END) <> 0"
        )
        used = await connection.fetch("SELECT account_id, used FROM quota.balances")
    finally:
        await connection.close()
    return Books(
        charges=dict(charges),
        events=await _read_events(house),
        entries={row["request_id"]: row["units"] for row in entries},
        written_off={row["request_id"]: row["units"] for row in written_off},
        lost_attempts={row["request_id"]: row["units"] for row in lost},
        used={row["account_id"]: row["used"] for row in used},
        open_holds=open_holds,
        audit=await asyncio.to_thread(_audit, house),
    )


@asynccontextmanager
async def watching(house: House) -> AsyncGenerator[Watch]:
    """Look at all balances again and again for the time of the block, from outside of the service."""
    watch = Watch()

    async def look() -> None:
        while True:
            try:
                connection = await asyncpg.connect(house.admin_dsn, port=PORT, timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                await asyncio.sleep(LOOK_S)
                continue
            try:
                while True:
                    await _look_once(connection, watch)
                    await asyncio.sleep(LOOK_S)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                # It may go down on purpose.
                continue
            finally:
                connection.terminate()

    task = asyncio.create_task(look())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _look_once(connection: asyncpg.Connection, watch: Watch) -> None:
    rows = await connection.fetch(
        "SELECT account_id, used + held - units_limit AS over FROM quota.balances WHERE used + held > units_limit",
        timeout=5,
    )
    watch.looks += 1
    for row in rows:
        watch.over[row["account_id"]] = max(row["over"], watch.over.get(row["account_id"], 0))


async def _settle_down(connection: asyncpg.Connection) -> int:
    """How many holds are open once none is, or the time is up."""
    deadline = time.monotonic() + SETTLED_WITHIN_S

    async def left(what: str) -> int:
        return int(await connection.fetchval(what) or 0)

    async def until_none(what: str) -> int:
        while (count := await left(what)) and time.monotonic() < deadline:  # noqa: ASYNC110 - it is told by a database
            await asyncio.sleep(LOOK_S)
        return count

    open_holds = await until_none("SELECT count(*) FROM quota.holds")
    waiting = await until_none("SELECT count(*) FROM quota.outbox")
    if waiting:
        raise TimeoutError(f"{waiting} events were not handed over within {SETTLED_WITHIN_S:.0f} s")
    await _until_steady(lambda: left("SELECT count(*) FROM synth.requests"))
    return open_holds


async def _until_steady(read: Callable[[], Awaitable[int]], steady_s: float = 1.5) -> None:
    """Return once a count has stood for a while: the request log is written every half second."""
    last, since = await read(), time.monotonic()
    while time.monotonic() - since < steady_s:
        await asyncio.sleep(LOOK_S)
        if (now := await read()) != last:
            last, since = now, time.monotonic()


async def _read_events(house: House) -> Charges:
    """The units of all settled events that are in the stream, but for those that were taken back."""
    login = {"ODEA_NATS_URL": house.nats_url, "ODEA_NATS_SEED": house.installer_seed}
    bus = Bus(load(Settings, login), INSTALLER)
    await bus.start()
    try:
        events = await _replay(bus)
    finally:
        await bus.stop()
    charges: Charges = defaultdict(list)
    taken_back = {event.hold_id for event in events if isinstance(event, WriteOffEvent)}
    for event in events:
        if isinstance(event, HoldEvent) and event.units_settled and event.hold_id not in taken_back:
            charges[event.request_id].append(event.units_settled)
    return dict(charges)


async def _replay(bus: Bus) -> Collection[HoldEvent | WriteOffEvent]:
    inbox, name = f"{inbox_prefix(INSTALLER)}.{new_id('bench')}", new_id("bench")
    decoders = {
        QUOTA_SETTLED: msgspec.json.Decoder(HoldEvent).decode,
        QUOTA_WRITTEN_OFF: msgspec.json.Decoder(WriteOffEvent).decode,
    }
    # The stream may hold an event twice, if the relay was killed between sending and noting; its id tells.
    events: dict[str, HoldEvent | WriteOffEvent] = {}
    seen = 0
    arrived = asyncio.Event()

    async def note(message: Msg) -> None:
        nonlocal seen
        seen += 1
        assert message.headers is not None
        events[message.headers["Nats-Msg-Id"]] = decoders[message.subject](message.data)
        arrived.set()

    await bus.client.subscribe(inbox, cb=note, pending_msgs_limit=-1, pending_bytes_limit=-1)
    consumer = await bus.client.jetstream(timeout=10).add_consumer(
        STREAM_EVENTS,
        ConsumerConfig(
            name=name,
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            filter_subjects=list(decoders),
            inactive_threshold=60,
        ),
    )
    expected = consumer.num_pending or 0
    async with asyncio.timeout(_EVENTS_WITHIN_S):
        while seen < expected:
            arrived.clear()
            await arrived.wait()
    return list(events.values())


def _audit(house: House) -> str:
    """What `odea-quota audit` says is wrong."""
    environ = {**os.environ, **house.environ_of("quota")}
    command = [sys.executable, "-m", "odea_quota", "audit"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_AUDIT_WITHIN_S, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]
