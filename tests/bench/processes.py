"""The bench's own processes: the upstream, generators, and what any process costs."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import psutil

from bench.records import Caller, LoadPlan, LoadResult
from bench.upstream import Control

TESTS = Path(__file__).parents[1]
GRACE_S = 10.0
RESULT_WITHIN_S = 60.0


@contextmanager
def started(
    *arguments: str, environ: Mapping[str, str] | None = None, output: int | None = None
) -> Generator[subprocess.Popen[str]]:
    """A Python process of ours for the time of the block."""
    path = f"{TESTS}:{os.environ['PYTHONPATH']}" if os.environ.get("PYTHONPATH") else str(TESTS)
    known = {**os.environ, "PYTHONPATH": path, **(environ or {})}
    process = subprocess.Popen([sys.executable, *arguments], env=known, stdout=output, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


class UpstreamHandle:
    """The upstream, from outside."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def callers(self, connections: int) -> tuple[Caller, ...]:
        """Nobody in particular."""
        return (Caller(tenant_id="upstream", key="bench", connections=connections),)

    def costs(self) -> dict[str, "Cost"]:
        """Its own cost is told beside everybody's."""
        return {}

    async def control(self, control: Control) -> None:
        """Be like that from now on."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.post(f"{self.url}/control", content=msgspec.json.encode(control))
            answer.raise_for_status()

    async def counts(self) -> dict[str, int]:
        """Characters that it synthesised, by request id."""
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            answer = await client.get(f"{self.url}/counts")
            return msgspec.json.decode(answer.content, type=dict[str, int])


@contextmanager
def upstream() -> Generator[UpstreamHandle]:
    """The upstream for the time of the block."""
    with started("-m", "bench.upstream", output=subprocess.PIPE) as process:
        assert process.stdout
        yield UpstreamHandle(process.stdout.readline().strip(), process.pid)


async def load(plan: LoadPlan) -> LoadResult:
    """Run a plan in a generator of its own.

    Raises:
        AssertionError: the generator failed, or did not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="odea-load-") as folder:
        plan_file, result_file = Path(folder) / "plan.json", Path(folder) / "result"
        plan_file.write_bytes(msgspec.json.encode(plan))
        with started("-m", "bench.load", str(plan_file), str(result_file)) as process:
            within_s = plan.warm_up_s + plan.seconds + plan.hang_s + RESULT_WITHIN_S
            status = await asyncio.to_thread(process.wait, within_s)
        assert status == 0, f"the generator ended with {status}"
        return msgspec.msgpack.decode(result_file.read_bytes(), type=LoadResult)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process has cost so far, its children included."""

    cpu_s: float
    pss_bytes: int


def cost_of(pid: int) -> Cost:
    """Of a process and all below it, those that have ended included."""
    cpu_s, pss_bytes = 0.0, 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                # Those that have ended count with their parent.
                cpu_s += times.user + times.system + times.children_user + times.children_system
                pss_bytes += each.memory_full_info().pss
    return Cost(cpu_s=cpu_s, pss_bytes=pss_bytes)


def alone(pid: int) -> Cost:
    """Of a process without those below it."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Cost(cpu_s=times.user + times.system, pss_bytes=process.memory_full_info().pss)
    return Cost(cpu_s=0.0, pss_bytes=0)


def spent(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> dict[str, float]:
    """Seconds of processor time between two looks, by name."""
    return {name: max(0.0, cost.cpu_s - before[name].cpu_s) for name, cost in after.items() if name in before}


def percentile(values: Iterable[float], share: float) -> float:
    """The value that so great a share does not exceed; not a number if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
