"""Does anything leak? The same load for minutes, with errors, leaving and timeouts in it, and a look before and after.

Both looks are taken at rest: the load stops, what is in hand ends, and what is left open then is counted. The first
look comes after a minute, when pools and caches are warm.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
import httpx
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.books import watching
from bench.house import SERVERS, SERVICES, SUPERVISOR, House, opened
from bench.money import Verdict
from bench.processes import UpstreamHandle, load
from bench.records import LEAVING, UPSTREAM_FAULTS, LoadPlan, Record
from bench.speed import ODEA, account
from bench.upstream import Control
from odea_local.embedded import EmbeddedStack
from odea_local.nats import HEAP_BYTES_MAX
from odea_local.postgres import PORT

FIRST_S: Final = 60.0
REST_S: Final = 65.0
"""Longer than twice the time that connections to the upstream are kept idle: so often does a pool look for those."""
GROWTH_MAX: Final = 0.10
NATS_CODE_BYTES: Final = 24 * 1024 * 1024
"""Of nats-server, with its stacks: what it takes beside its heap."""
NATS_THREADS_MAX: Final = 16
"""Go keeps every thread that it once made for a system call that took long."""
USUAL: Final = Control(first_s=0.05, between_s=0.02, sigma=0.5)
IN_HAND: Final = ("odea_stream_open", "odea_http_requests_in_hand", "odea_quota_open_holds", "odea_synth_waiting")
"""Gauges of tasks in hand."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is open at rest.

    Attributes:
        counts: connections, files and threads of each process, subscriptions, sessions, requests in hand; by name.
        rss_bytes: by process.
    """

    counts: Mapping[str, int]
    rss_bytes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What came of it."""

    first: Look
    last: Look
    requests: int
    minutes: float
    faults: tuple[str, ...]
    verdict: Verdict


async def soak(stack: EmbeddedStack, upstream: UpstreamHandle, *, minutes: float, connections: int) -> Soak:
    """Load, look, load, look."""
    records: list[Record] = []
    async with opened(stack) as house, watching(house) as watch:
        await upstream.control(USUAL)
        records += await _load(house, "first", FIRST_S, connections)
        first = await rested(house)
        records += await _load(house, "rest", max(1.0, minutes * 60 - FIRST_S), connections)
        last = await rested(house)
        verdict = await account(house, upstream, records, watch)
    faults = (*verdict.faults, *compare(first, last))
    return Soak(first=first, last=last, requests=len(records), minutes=minutes, faults=faults, verdict=verdict)


async def _load(house: House, name: str, seconds: float, connections: int) -> tuple[Record, ...]:
    plan = LoadPlan(
        name=f"{ODEA}-{name}",
        url=house.url,
        callers=house.callers(connections),
        seconds=seconds,
        wishes=dict.fromkeys(sorted(UPSTREAM_FAULTS | LEAVING), 0.03),
    )
    return (await load(plan)).records


def compare(first: Look, last: Look) -> list[str]:
    """What is more than it was.

    NATS is written in Go: how much lies in its heap, and how many threads it has, depends on when it was last looked
    through. Ten minutes' ids of events are remembered there, too. It may use what it is given, and no more.
    """
    most = {**first.counts, "threads of nats": max(first.counts.get("threads of nats", 0), NATS_THREADS_MAX)}
    faults = [
        f"{name}: {first.counts.get(name, 0)} at first, {count} at last"
        for name, count in last.counts.items()
        if count > most.get(name, 0)
    ]
    for name, size in last.rss_bytes.items():
        before = first.rss_bytes.get(name, 0)
        room = HEAP_BYTES_MAX + NATS_CODE_BYTES if name == "nats" else before * (1 + GROWTH_MAX)
        if size > room:
            faults.append(f"memory of {name}: {before / 1e6:.0f} MB at first, {size / 1e6:.0f} MB at last")
    return faults


async def rested(house: House) -> Look:
    """Wait until pools have shrunk, and look."""
    await asyncio.sleep(REST_S)
    return await look(house)


async def look(house: House) -> Look:
    """What is open now."""
    counts: dict[str, int] = {}
    rss_bytes: dict[str, int] = {}
    status = house.stack.status()
    pids = {service.name: service.pid for service in status.services} | {SUPERVISOR: status.pid}
    for name in (*SERVICES, *SERVERS, SUPERVISOR):
        pid = pids[name]
        assert pid, f"{name} does not run"
        process = psutil.Process(pid)
        if name != "postgres":
            # Its children are the sessions, which are counted below.
            counts[f"connections of {name}"] = len(process.net_connections(kind="tcp"))
        counts[f"files of {name}"] = process.num_fds()
        counts[f"threads of {name}"] = process.num_threads()
        rss_bytes[name] = process.memory_info().rss
    counts |= await _sessions(house)
    counts |= await _subscriptions(house)
    counts |= await _in_hand(house)
    return Look(counts=counts, rss_bytes=rss_bytes)


async def _sessions(house: House) -> dict[str, int]:
    connection = await asyncpg.connect(house.admin_dsn, port=PORT)
    try:
        rows = await connection.fetch(
            "SELECT usename, count(*) FROM pg_stat_activity WHERE usename LIKE 'odea\\_%' GROUP BY 1"
        )
    finally:
        await connection.close()
    return {f"sessions of {row['usename']}": row["count"] for row in rows}


async def _subscriptions(house: House) -> dict[str, int]:
    monitor = house.stack.folder.ports
    port = msgspec.json.decode(monitor.read_bytes())["nats_monitor"]
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        told = (await client.get(f"http://127.0.0.1:{port}/varz")).json()
    return {"subscriptions of nats": told["subscriptions"], "clients of nats": told["connections"]}


async def _in_hand(house: House) -> dict[str, int]:
    found: dict[str, int] = {}
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        for name in SERVICES:
            port = msgspec.json.decode(house.stack.folder.ports.read_bytes())[f"{name}_ops"]
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            for family in text_string_to_metric_families(text):
                if family.name in IN_HAND:
                    count = int(sum(sample.value for sample in family.samples))
                    found[f"{family.name} of {name}"] = count
    return found


def soak_report(found: Soak) -> str:
    """Both looks side by side."""
    lines = [
        f"# Odea for {found.minutes:g} minutes\n",
        f"{found.requests:,} requests; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC.\n",
        "| At rest | after the first minute | at the end |",
        "|---|---|---|",
        *(
            f"| {name} | {found.first.counts.get(name, 0)} | {found.last.counts.get(name, 0)} |"
            for name in sorted(found.first.counts.keys() | found.last.counts.keys())
        ),
        *(
            f"| memory of {name}, MB | {found.first.rss_bytes[name] / 1e6:.0f} | {size / 1e6:.0f} |"
            for name, size in found.last.rss_bytes.items()
        ),
        "",
    ]
    return "\n".join(lines)
