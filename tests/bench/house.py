"""Odea as the bench runs it: a stack of its own with the settings of a release, everything on, and tenants who pay.

PostgreSQL writes with fsync, events go through JetStream, every request is a line of JSON in the log. The only thing
that is not as in production is who speaks: one provider of kind `openai` at the bench's upstream.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench.processes import Cost, UpstreamHandle, alone, cost_of
from bench.records import Caller
from odea_contracts.plans import PlanSet
from odea_local.credentials import load_or_create
from odea_local.embedded import EmbeddedStack, embedded_stack
from odea_local.postgres import Postgres
from odea_local.roles import DATABASE
from support.operator import Operator, operating

SERVICES: Final = ("gateway", "keys", "quota", "synth")
SERVERS: Final = ("postgres", "nats")
SUPERVISOR: Final = "supervisor"
TENANTS: Final = 4
TIGHT_UNITS: Final = 20_000

ROUTING: Final = """
[providers.bench]
kind = "openai"
base_url = "{url}/v1"
credentials = ["BENCH_UPSTREAM_KEY"]
streams_max = 4096
first_audio_s = {first_audio_s}
next_audio_s = {next_audio_s}
breaker = {{ faults_max = {faults_max}, open_s = {open_s} }}

[models.tts-1]
routes = [{{ provider = "bench", model = "tts-1" }}]
"""


class House:
    """A running stack with its tenants."""

    def __init__(self, stack: EmbeddedStack, operator: Operator) -> None:
        self.stack = stack
        self.operator = operator
        self.url: Final = stack.url
        self.tenants: dict[str, str] = {}
        """Keys by tenant id; the generous ones."""
        self.limits: dict[str, int] = {}
        """Units by account, of all accounts that have a limit."""
        credentials = load_or_create(stack.folder.credentials)
        self.admin_dsn: Final = Postgres.at(stack.folder.postgres, credentials.postgres).admin_dsn(DATABASE)
        self.installer_seed: Final = credentials.nats_installer
        self.nats_url: Final = f"nats://{stack.service('nats').address}"

    async def open(self) -> None:
        """Make the generous tenants."""
        plan = PlanSet(
            name="bench", units=10**12, requests_per_minute=1_000_000, requests_burst=1_000_000, in_flight_max=100_000
        )
        for _ in range(TENANTS):
            tenant, key = await self.operator.new_tenant(plan)
            self.tenants[tenant.tenant_id] = key
            self.limits[tenant.tenant_id] = 10**12

    async def tight(self, units: int, connections: int) -> Caller:
        """A new tenant whose limit is soon reached."""
        tenant, key = await self.operator.new_tenant(PlanSet(name=f"tight-{units}", units=units))
        self.limits[tenant.tenant_id] = units
        return Caller(tenant_id=tenant.tenant_id, key=key, connections=connections)

    def callers(self, connections: int) -> tuple[Caller, ...]:
        """So many connections, shared out among the generous tenants."""
        share, more = divmod(connections, len(self.tenants))
        counts = [share + (place < more) for place in range(len(self.tenants))]
        return tuple(
            Caller(tenant_id=tenant_id, key=key, connections=count)
            for (tenant_id, key), count in zip(self.tenants.items(), counts, strict=True)
            if count
        )

    def costs(self) -> dict[str, Cost]:
        """What each process has cost so far. A process that was started anew begins at nothing."""
        status = self.stack.status()
        found = {each.name: cost_of(each.pid) for each in status.services if each.pid}
        return {**found, SUPERVISOR: alone(status.pid)}

    def environ_of(self, service: str) -> dict[str, str]:
        """A process's environment."""
        pid = self.stack.service(service).pid
        assert pid is not None
        return psutil.Process(pid).environ()


@contextmanager
def odea(
    folder: Path, upstream: UpstreamHandle, environ: Mapping[str, str], **routing: float
) -> Generator[EmbeddedStack]:
    """A stack whose only voice is the upstream, for the time of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "routing.toml"
    said = {"first_audio_s": 10.0, "next_audio_s": 10.0, "faults_max": 1000, "open_s": 1.0, **routing}
    file.write_text(ROUTING.format(url=upstream.url, **said))
    release = {"ODEA_LOG_FORMAT": "json", "ODEA_SYNTH_ROUTING_FILE": str(file), "BENCH_UPSTREAM_KEY": "bench"}
    with embedded_stack(folder / "stack", {**release, **environ}) as stack:
        yield stack


@asynccontextmanager
async def opened(stack: EmbeddedStack) -> AsyncGenerator[House]:
    """The stack with its operator and tenants."""
    async with operating(stack) as operator:
        house = House(stack, operator)
        await house.open()
        yield house
