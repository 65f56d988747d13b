"""A gateway on a port of its own, in this process or in one of its own, and raw connections to it."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from integration.gateway.standins import Standins, standing_in
from odea_contracts.keys import Scope
from odea_gateway.app import Gateway
from odea_gateway.settings import GatewaySettings
from odea_runtime.settings import load

SPEECH = "/v1/audio/speech"
BODY = {"model": "tts-1", "voice": "alloy", "input": "Hello."}


def environment(nats_url: str, **changes: str) -> dict[str, str]:
    """The variables of a gateway on free ports."""
    given = {"nats_url": nats_url, "gateway_address": "127.0.0.1:0", "ops_address": "127.0.0.1:0", **changes}
    return {f"ODEA_{name.upper()}": value for name, value in given.items()}


def settings_for(nats_url: str, **changes: str) -> GatewaySettings:
    """The settings of a gateway on free ports."""
    return load(GatewaySettings, environment(nats_url, **changes))


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncGenerator[Gateway]:
    """A gateway in this process, connected, until the block is left."""
    gateway = Gateway(settings)
    stop = asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    try:
        await until_ready(gateway.ops.port, task)
        yield gateway
    finally:
        stop.set()
        await task


@asynccontextmanager
async def staged(nats_url: str, **changes: str) -> AsyncGenerator[tuple[Standins, Gateway, httpx.AsyncClient]]:
    """Stand-ins, gateway and a client with a good key, for one test alone on its NATS."""
    settings = settings_for(nats_url, **changes)
    async with (
        standing_in(settings) as parts,
        running(settings) as gateway,
        client_of(gateway, parts.keys.issue(Scope.SPEECH)) as client,
    ):
        yield parts, gateway, client


async def until_ready(ops_port: int, task: asyncio.Task[None]) -> None:
    """Wait until the gateway says that it reaches the bus.

    Not by a path of clients, which may refuse a stranger before it needs the bus.
    """
    async with asyncio.timeout(10), client_at(f"127.0.0.1:{ops_port}") as probe:
        while not task.done():
            with suppress(httpx.TransportError):
                if (await probe.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.02)
    await task


def client_of(gateway: Gateway, key: str | None = None) -> httpx.AsyncClient:
    """An HTTP client of `gateway`."""
    return client_at(str(gateway.http.address), key)


def client_at(address: str, key: str | None = None) -> httpx.AsyncClient:
    """An HTTP client of the gateway at `address`."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=f"http://{address}", headers=headers, timeout=20.0, trust_env=False)


async def raw_exchange(address: str, request: bytes, *, within_s: float = 5.0) -> bytes:
    """Send bytes, and read until the server closes the connection or `within_s` is over."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = bytearray()
    try:
        writer.write(request)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(within_s):
                while piece := await reader.read(65536):
                    answer += piece
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return bytes(answer)


@dataclass
class GatewayProcess:
    """A gateway as operators run it."""

    process: Process
    address: str
    log: list[dict[str, Any]]
    reading: asyncio.Task[None]

    @property
    def pid(self) -> int:
        return self.process.pid

    def rss_kb(self) -> int:
        """Resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def process(nats_url: str, **changes: str) -> AsyncGenerator[GatewayProcess]:
    """`python -m odea_gateway serve`, until the block is left."""
    env = {"PATH": os.environ["PATH"], **environment(nats_url, **changes)}
    started = await asyncio.create_subprocess_exec(sys.executable, "-m", "odea_gateway", "serve", stderr=PIPE, env=env)
    log: list[dict[str, Any]] = []
    serving = asyncio.Event()
    reading = asyncio.create_task(_read(started, log, serving.set))
    try:
        async with asyncio.timeout(20):
            await serving.wait()
        said = next(line for line in log if line["event"] == "serving")
        await until_ready(said["ops_port"], reading)
        yield GatewayProcess(started, said["address"], log, reading)
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
        await reading


async def _read(started: Process, log: list[dict[str, Any]], on_serving: Callable[[], None]) -> None:
    assert started.stderr is not None
    async for line in started.stderr:
        log.append(json.loads(line))
        if log[-1]["event"] == "serving":
            on_serving()
