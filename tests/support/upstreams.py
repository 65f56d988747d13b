"""Paid upstreams' fakes behind a whole stack: the stack, each service a process of its own, and who may speak there."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from fakes.openai.app import KEY
from odea_contracts import plans
from odea_local.embedded import EmbeddedStack, embedded_stack
from odea_runtime.ids import new_id
from support.operator import operating

VARIABLE = "ODEA_TEST_UPSTREAM_KEY"
STREAMS_MAX = 1000


@dataclass(frozen=True, kw_only=True)
class Served:
    """A stack that speaks with a fake, and the key of a tenant without limits."""

    stack: EmbeddedStack
    upstream_url: str
    key: str

    def client(self, *, timeout_s: float = 30.0) -> httpx.AsyncClient:
        """An HTTP client of the gateway with the key."""
        return _client(self.stack.url, self.key, timeout_s)

    def direct(self, *, timeout_s: float = 30.0) -> httpx.AsyncClient:
        """The same client, but of the upstream itself."""
        return _client(self.upstream_url, KEY, timeout_s)

    def memory_mb(self) -> dict[str, float]:
        """What each of the two processes on the way of audio keeps."""
        pids = {name: self.stack.service(name).pid for name in ("gateway", "synth")}
        return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in pids.items() if pid}


def _client(url: str, key: str, timeout_s: float) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=STREAMS_MAX)
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=timeout_s, trust_env=False)


@contextmanager
def upstream(name: str, *options: str) -> Generator[str]:
    """The fake of this name as a process of its own; its URL."""
    command = [sys.executable, "-m", f"fakes.{name}", *options]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def stack_with(upstream_url: str) -> AsyncGenerator[Served]:
    """A whole stack that speaks with the fake of OpenAI's server at this URL alone."""
    with tempfile.TemporaryDirectory(prefix="odea-upstream-", ignore_cleanup_errors=True) as folder:
        routing = Path(folder) / "routing.toml"
        routing.write_text(_routing(f"{upstream_url}/v1"))
        environ = {VARIABLE: KEY, "ODEA_SYNTH_ROUTING_FILE": str(routing), "ODEA_LOG_FORMAT": "json"}
        stack = embedded_stack(Path(folder) / "stack", environ)
        # In a thread, since the fake may be served by this loop.
        running = await asyncio.to_thread(stack.__enter__)
        try:
            async with operating(running) as operator:
                _, key = await operator.new_tenant(plans.PlanSet(name=new_id("plan"), units=None))
            yield Served(stack=running, upstream_url=upstream_url, key=key)
        finally:
            await asyncio.to_thread(stack.__exit__, None, None, None)


def _routing(base_url: str) -> str:
    quoted = json.dumps(base_url)
    return f"""
[providers.fake]
kind = "openai"
base_url = {quoted}
credentials = ["{VARIABLE}"]
streams_max = {STREAMS_MAX}

[models.tts-1]
routes = [{{ provider = "fake" }}]
"""
