"""Whether the time of a refusal tells its reason. `just bench-verify` prints a table and fails if it does.

Unknown ids, wrong secrets and revoked keys are verified in turn on the real path: the bus, the service in a process of
its own, PostgreSQL. The medians of each two reasons are compared by Mood's median test, and may lie 5 % apart at most.
"""

import argparse
import asyncio
import itertools
import math
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.keys.harness import Client, calling, settings_for, verify_request
from odea_contracts import keys, tenants
from odea_contracts.keys import Refusal, Refused, Verify
from odea_keys.settings import KeysSettings
from odea_local.embedded import embedded_nats, embedded_postgres
from odea_runtime.bus import BusError
from support.databases import Databases
from support.waiting import until

DIFFERENCE_MAX = 0.05
KEYS = 60
WARM_UP = 600


@dataclass(frozen=True)
class Reason:
    """A reason to refuse, and how to ask for it."""

    refusal: Refusal
    request: Callable[[], Verify]


@dataclass(frozen=True)
class Comparison:
    """Two reasons: how far their medians lie apart, and how likely chance alone would part them so."""

    first: Refusal
    second: Refusal
    difference: float
    p: float


@asynccontextmanager
async def keys_service(settings: KeysSettings, folder: Path) -> AsyncGenerator[None]:
    """The service in a process of its own, from its first answer to its end."""
    environ = os.environ | {
        "ODEA_NATS_URL": settings.nats_url.get_secret_value(),
        "ODEA_DATABASE_URL": settings.database_url.get_secret_value(),
        "ODEA_KEYS_PEPPERS": settings.keys_peppers.get_secret_value(),
        "ODEA_OPS_ADDRESS": "127.0.0.1:0",
    }
    with (folder / "keys.log").open("wb") as log:
        command = (sys.executable, "-m", "odea_keys", "serve")
        process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=log, stderr=log)
        try:
            async with calling(settings) as client:
                await until(lambda: is_answered(client), within_s=30)
            yield
        finally:
            process.terminate()
            await process.wait()


async def is_answered(client: Client) -> bool:
    """Whether the service serves."""
    try:
        await client.call(tenants.TENANT_LIST, tenants.TenantList(limit=1))
    except BusError:
        return False
    return True


async def reasons(client: Client) -> list[Reason]:
    """Keys of every kind, as many of each."""
    tenant = await client.new_tenant("bench")
    living = [await client.new_key(tenant.tenant_id) for _ in range(KEYS)]
    revoked = [await client.new_key(tenant.tenant_id) for _ in range(KEYS)]
    for issued in revoked:
        await client.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))
    good = [verify_request(issued.secret) for issued in revoked]

    def unknown() -> Verify:
        return Verify(public_id=secrets.token_hex(6), digest=secrets.token_hex(64))

    def wrong() -> Verify:
        return Verify(public_id=random.choice(living).key.public_id, digest=secrets.token_hex(64))

    def gone() -> Verify:
        return random.choice(good)

    return [
        Reason(Refusal.UNKNOWN, unknown),
        Reason(Refusal.WRONG_SECRET, wrong),
        Reason(Refusal.REVOKED, gone),
    ]


async def measure(client: Client, asked: list[Reason], count: int) -> dict[Refusal, list[float]]:
    """Microseconds of each verification. In every round each reason comes once, in another order."""
    times: dict[Refusal, list[float]] = {reason.refusal: [] for reason in asked}
    for number in range(-WARM_UP, count // len(asked)):
        for reason in random.sample(asked, len(asked)):
            request = reason.request()
            began = time.perf_counter()
            reply = await client.call(keys.VERIFY, request)
            took_us = (time.perf_counter() - began) * 1_000_000
            assert reply == Refused(reason=reason.refusal), reply
            if number >= 0:
                times[reason.refusal].append(took_us)
    return times


def compare(times: dict[Refusal, list[float]]) -> list[Comparison]:
    """Each two reasons. The difference is of their medians, as a part of the median of both together."""
    found: list[Comparison] = []
    for (first, a), (second, b) in itertools.combinations(times.items(), 2):
        median = statistics.median([*a, *b])
        difference = (statistics.median(a) - statistics.median(b)) / median
        found.append(Comparison(first, second, difference, mood_p(a, b, median)))
    return found


def mood_p(a: list[float], b: list[float], median: float) -> float:
    """Mood's median test: the chance that two samples of one distribution lie so unevenly about their median."""
    above_a, above_b = (sum(value > median for value in sample) for sample in (a, b))
    below_a, below_b = len(a) - above_a, len(b) - above_b
    above, below = above_a + above_b, below_a + below_b
    if not above or not below:
        return 1.0
    product = len(a) * len(b) * above * below
    chi_square = (len(a) + len(b)) * (above_a * below_b - above_b * below_a) ** 2 / product
    return math.erfc(math.sqrt(chi_square / 2))


def report(times: dict[Refusal, list[float]], found: list[Comparison]) -> str:
    """Two tables in Markdown."""
    lines = ["| Reason | Count | Quarter, µs | Median, µs | Three quarters, µs |", "|---|---:|---:|---:|---:|"]
    for refusal, sample in times.items():
        quarter, median, three = statistics.quantiles(sample, n=4)
        lines.append(f"| {refusal.value} | {len(sample)} | {quarter:.0f} | {median:.0f} | {three:.0f} |")
    lines += ["", f"| Reasons | Difference, at most {DIFFERENCE_MAX:.0%} | Mood's p |", "|---|---:|---:|"]
    lines += [f"| {c.first.value} / {c.second.value} | {c.difference:+.2%} | {c.p:.3f} |" for c in found]
    return "\n".join(lines)


async def run(folder: Path, count: int) -> dict[Refusal, list[float]]:
    """The whole measurement on servers of its own."""
    with embedded_postgres(folder / "postgres") as postgres, embedded_nats(folder / "nats") as broker:
        settings = settings_for(broker.url, await Databases(postgres.dsn).create("keys"))
        async with keys_service(settings, folder), calling(settings) as client:
            return await measure(client, await reasons(client), count)


def main() -> int:
    """Measure, print, and say by the exit status whether a refusal can be told by its time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="verifications in all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = asyncio.run(run(Path(folder), arguments.count))
    found = compare(times)
    sys.stdout.write(report(times, found) + "\n")
    return int(any(abs(comparison.difference) > DIFFERENCE_MAX for comparison in found))


if __name__ == "__main__":
    sys.exit(main())
