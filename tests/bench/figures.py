"""Figures of one measurement, and the conditions under which it was made."""

import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil

from bench.processes import Cost, percentile, spent
from bench.records import End, LoadResult
from odea_local.nats import find_program
from odea_local.postgres import find_binaries

PACKAGES: Final = (
    "odea-gateway", "granian", "litestar", "faststream", "nats-py", "asyncpg", "httpx", "httpx-aiohttp", "aiohttp",
    "msgspec", "uvloop",
)  # fmt: skip


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one target under one load.

    Attributes:
        target: what was asked: `odea`, `bare`, `upstream`, a peer.
        upstream_ms: the median that the upstream took to its first audio.
        per_s: speeches that were whole, a second.
        first_ms: to the first audio: p50, p95.
        total_ms: to the last: p50, p90, p95, p99 and the longest.
        ends: how requests ended, as `whole`, `refused 429 rate_limited` and so on.
        unasked: refusals without `Retry-After`, and everything that is neither whole nor refused with 429 or 503.
        cpu_s: seconds of processor time for 1,000 requests, by process, the generator among them.
        pss_bytes: memory afterwards, by process.
    """

    target: str
    connections: int
    upstream_ms: int
    per_s: float
    first_ms: tuple[float, float]
    total_ms: tuple[float, float, float, float, float]
    ends: Mapping[str, int]
    unasked: int
    cpu_s: Mapping[str, float]
    pss_bytes: Mapping[str, int]

    @property
    def errors(self) -> int:
        """Requests that did not end whole."""
        return sum(count for end, count in self.ends.items() if end != End.WHOLE)


def figures(
    target: str, upstream_ms: int, result: LoadResult, before: Mapping[str, Cost], after: Mapping[str, Cost]
) -> Figures:
    """From what a generator wrote down and what processes cost before and after."""
    records = result.measured
    whole = [record for record in records if record.end is End.WHOLE]
    first = [record.first_ms for record in whole]
    total = [record.total_ms for record in whole]
    in_time = sum(record.began + record.total_ms / 1000 <= result.ended for record in whole)
    seconds = max(result.ended - result.began, 1e-9)
    # The warm-up was paid for, too.
    thousands = max(len(result.records), 1) / 1000
    return Figures(
        target=target,
        connections=result.plan.connections,
        upstream_ms=upstream_ms,
        per_s=in_time / seconds,
        first_ms=(percentile(first, 0.5), percentile(first, 0.95)),
        total_ms=(
            percentile(total, 0.5),
            percentile(total, 0.9),
            percentile(total, 0.95),
            percentile(total, 0.99),
            max(total, default=float("nan")),
        ),
        ends=Counter(
            " ".join(filter(None, (r.end, str(r.status), r.code))).replace("whole 200", "whole") for r in records
        ),
        unasked=sum(
            not (r.end is End.WHOLE or (r.end is End.REFUSED and r.status in {429, 503} and r.retry_after))
            for r in records
        ),
        cpu_s={name: cost / thousands for name, cost in {**spent(before, after), "generator": result.cpu_s}.items()},
        pss_bytes={name: cost.pss_bytes for name, cost in after.items()},
    )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured, and what with."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    servers: str
    packages: str
    load: str


def machine() -> Machine:
    """This one, now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return Machine(
        processor=model or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        memory_gib=psutil.virtual_memory().total / 2**30,
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        servers=", ".join(
            subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
            for program in (find_binaries() / "postgres", find_program())
        ),
        packages=", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        load=" ".join(f"{value:.1f}" for value in os.getloadavg()),
    )
